"""An S3 server of the test's own: loopback, a free port, random root credentials, a folder that goes with it."""

from __future__ import annotations

import secrets
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from cluster.binaries import ensure
from cluster.processes import ProcessGroup, free_port
from support.polling import wait_until


class S3Server(ABC):
    """`with` one of its kinds gives `endpoint`, `access_key`, `secret_key`; `stop` and `start` keep the data.

    The program is built on first use (minutes); ask for `cluster.binaries PROGRAM` beforehand where a test's deadline
    is shorter than that.
    """

    PROGRAM: ClassVar[str]
    HEALTH: ClassVar[str]

    def __init__(self) -> None:
        self._program = ensure(self.PROGRAM)
        self._group = ProcessGroup(self.PROGRAM)
        self._port = free_port()
        self.access_key = "test" + secrets.token_hex(8)
        self.secret_key = secrets.token_hex(20)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @abstractmethod
    def _arguments(self, address: str, folder: Path) -> Sequence[str]:
        """Of the program, which listens on `address` and keeps its objects below `folder`."""

    @abstractmethod
    def _environment(self) -> Mapping[str, str]:
        """The root credentials among it."""

    def start(self) -> None:
        arguments = self._arguments(f"127.0.0.1:{self._port}", self._group.folder)
        self._group.start(self.PROGRAM, [str(self._program), *arguments], environment=self._environment())
        wait_until(self._ready, what=f"{self.PROGRAM} on {self.endpoint}")

    def stop(self) -> None:
        """Takes the store down as an outage does; the objects come back with `start`."""
        self._group.stop(self.PROGRAM)

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
        self._group.check(self.PROGRAM)
        # MinIO says that it is healthy before it serves: until then it answers every other request with 503.
        return self._status(self.HEALTH) == HTTPStatus.OK and self._status("/") < HTTPStatus.INTERNAL_SERVER_ERROR

    def _status(self, path: str) -> int:
        """Returns the status of the answer to a request without credentials; 503 if no answer comes."""
        try:
            with urllib.request.urlopen(f"{self.endpoint}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return refusal.code
        except OSError:
            return HTTPStatus.SERVICE_UNAVAILABLE
