"""The page of `atoll ui` over a folder of its own; the stages of its runs do no work."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atoll_cli.ui.datasets import Workspace
from atoll_cli.ui.handlers import Handlers
from atoll_cli.ui.server import TOKEN_HEADER, UiServer
from atoll_contract.store import directory_store, open_store
from support.noop_atoll import command
from support.polling import wait_until

RUN = """\
apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: {{ name: {name} }}
spec:
  datasets: [{{ key: datasets/local/pictures.tar }}]
  model: {{ width: "0.5" }}
  training: {{ steps: 1000, batchSize: 8 }}
  compile: [{targets}]
  publish: {{ model: {model} }}
"""


def run_text(name: str, *, model: str = "note", targets: Sequence[str] = ("edgetpu",)) -> str:
    """A run.yaml."""
    return RUN.format(name=name, model=model, targets=", ".join(f"{{ target: {target} }}" for target in targets))


class LocalPage:
    """`with LocalPage(folder) as page:`; `plan` says what the stages do (see `noop_stages`)."""

    def __init__(self, folder: Path, *, store: Path | None = None) -> None:
        self.folder = folder
        self.store = store or folder / "store"

    def plan(self, **stages: dict[str, Any]) -> None:
        (self.folder / "plan.json").write_text(json.dumps(stages))

    def __enter__(self) -> Self:
        store = open_store(directory_store(self.store))
        self.handlers = Handlers(Workspace(self.store, store, "local"), command=command)
        self.server = UiServer(self.handlers, 0)
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.close()
        self.handlers.close()

    @property
    def address(self) -> str:
        return self.server.guard.address

    def send(
        self, path: str, body: bytes | Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of a response; the token is sent unless `headers` are given."""
        given = {TOKEN_HEADER: self.server.guard.token} if headers is None else dict(headers)
        data = json.dumps(body).encode() if isinstance(body, Mapping) else body
        request = urllib.request.Request(f"http://127.0.0.1:{self.server.guard.port}{path}", data=data, headers=given)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def request(self, path: str, body: bytes | Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON document of a response; it has `error` if the request was refused."""
        document: dict[str, Any] = json.loads(self.send(path, body)[1])
        return document

    def run_task(self, path: str, body: bytes | Mapping[str, Any]) -> dict[str, Any]:
        """The result of the task that a request starts."""
        started = self.request(path, body)
        if "task" not in started:
            return started

        def ended() -> dict[str, Any] | None:
            state = self.request(f"/api/errands/{started['task']}")
            return state if state["state"] in ("done", "refused") else None

        return wait_until(ended, what=path, timeout_seconds=120)

    def start(self, name: str, *, model: str = "note", targets: Sequence[str] = ("edgetpu",)) -> dict[str, Any]:
        return self.request("/api/runs", {"text": run_text(name, model=model, targets=targets)})

    def state_of(self, name: str) -> str:
        found = (run["state"] for run in self.request("/api/state")["runs"] if run["name"] == name)
        return next(found, "")

    def wait_for(self, name: str, *states: str) -> None:
        wait_until(lambda: self.state_of(name) in states, what=f"{name} {states}", timeout_seconds=200)
