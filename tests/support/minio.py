"""A MinIO server of the test's own: loopback, a free port, random root credentials, a folder that goes with it."""

from __future__ import annotations

import secrets
import urllib.error
import urllib.request
from types import TracebackType
from typing import Self

from cluster.binaries import ensure
from cluster.processes import ProcessGroup, free_port
from support.polling import wait_until


class MinioServer:
    """`with MinioServer() as server:` gives `endpoint`, `access_key`, `secret_key`; `stop` and `start` keep the data.

    The program is built on first use (minutes); ask for `cluster.binaries minio` beforehand where a test's deadline
    is shorter than that.
    """

    def __init__(self) -> None:
        self._program = ensure("minio")
        self._group = ProcessGroup("minio")
        self._port = free_port()
        self.access_key = "test" + secrets.token_hex(8)
        self.secret_key = secrets.token_hex(20)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        data = self._group.folder / "data"
        data.mkdir(exist_ok=True)
        self._group.start(
            "minio",
            [str(self._program), "server", "--quiet", "--address", f"127.0.0.1:{self._port}", str(data)],
            environment={
                "MINIO_ROOT_USER": self.access_key,
                "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
        )
        wait_until(self._ready, what=f"MinIO on {self.endpoint}")

    def stop(self) -> None:
        """Takes the store down as an outage does; the objects come back with `start`."""
        self._group.stop("minio")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._group.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._group.close()

    def _ready(self) -> bool:
        self._group.check("minio")
        try:
            with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
