"""Who wrote what to the API server, and when: its audit log, read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

_READING = ["get", "list", "watch"]


def policy(users: Sequence[str]) -> dict[str, Any]:
    """An audit policy: all writes of these users and of service accounts, and the ends of pods and Jobs."""
    written = [{"group": "", "resources": ["pods/status"]}, {"group": "batch", "resources": ["jobs/status"]}]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "verbs": _READING},
            {"level": "Metadata", "users": list(users)},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "Metadata", "resources": written},
            {"level": "None"},
        ],
    }


@dataclass(frozen=True)
class Write:
    """One answered call that writes. `time` is that of the answer, in seconds since 1970; `resource` with its
    subresource, as in `pods/status`. `name` is empty where the server made it."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    time: float


class AuditLog:
    """The writes in an audit log, each told once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def skip(self) -> None:
        """Leaves out what is there so far."""
        for _ in self._lines():
            pass

    def new(self) -> Iterator[Write]:
        """What was added since the last call; a last line that is still being written is left for the next."""
        return (_write(json.loads(line)) for line in self._lines())

    def _lines(self) -> Iterator[bytes]:
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield line


def _write(event: dict[str, Any]) -> Write:
    about = event.get("objectRef") or {}
    resource = "/".join(part for part in (about.get("resource", ""), about.get("subresource", "")) if part)
    return Write(
        user=event["user"]["username"],
        verb=event["verb"],
        resource=resource,
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=int((event.get("responseStatus") or {}).get("code", 0)),
        time=datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
    )
