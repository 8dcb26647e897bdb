"""A versitygw server of the test's own, started as the chart's bundled store starts it."""

from __future__ import annotations

import secrets
import urllib.error
import urllib.request
from types import TracebackType
from typing import Self

from cluster.binaries import ensure
from cluster.processes import ProcessGroup, free_port
from support.polling import wait_until


class VersityServer:
    """`with VersityServer() as server:` gives `endpoint`, `access_key`, `secret_key`."""

    def __init__(self) -> None:
        self._program = ensure("versitygw")
        self._group = ProcessGroup("versitygw")
        self._port = free_port()
        self.access_key = "test" + secrets.token_hex(8)
        self.secret_key = secrets.token_hex(20)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._group.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._group.close()

    def _start(self) -> None:
        objects, metadata = self._group.folder / "objects", self._group.folder / "metadata"
        objects.mkdir()
        metadata.mkdir()
        address = f"127.0.0.1:{self._port}"
        posix = ("posix", "--sidecar", str(metadata), str(objects))
        self._group.start(
            "versitygw",
            [str(self._program), "--port", address, "--health", "/health", "--quiet", *posix],
            environment={"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key},
        )
        wait_until(self._ready, what=f"versitygw on {self.endpoint}")

    def _ready(self) -> bool:
        self._group.check("versitygw")
        try:
            with urllib.request.urlopen(f"{self.endpoint}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
