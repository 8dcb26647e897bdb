"""Runs of the local engine with the stages of `noop_stages`, in this process or in one of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from atoll_cli.commands.run import Interruption
from atoll_cli.console import exit_status
from atoll_cli.local.launch import LaunchRequest, launch
from atoll_cli.local.result import RunResult
from atoll_cli.local.runfile import read_run_file
from atoll_cli.run_display import PlainDisplay
from atoll_contract.stage import ENV_POD_UID, Stage

STAGES = Path(__file__).parent / "noop_stages"

RUN = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: { name: noop }
spec:
  datasets: [{ key: datasets/local/pictures.tar }]
  publish: { model: noop }
"""


def noop_command(stage: Stage, command: Sequence[str]) -> Sequence[str]:
    """The command of a stage that does no work, instead of the container's."""
    return [sys.executable, "-P", str(STAGES), str(stage)]


@dataclass
class RecordedOutput(PlainDisplay):
    """A display that records its lines."""

    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def say(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class NoopRun:
    """One run file, one store and one plan for the stages, below `folder`."""

    folder: Path
    text: str = RUN
    # What `start` starts.
    program: ClassVar[str] = "support.noop_run"

    def __post_init__(self) -> None:
        self.file = self.folder / "run.yaml"
        self.store = self.folder / "store"
        self.display = RecordedOutput()
        self.file.write_text(self.text)

    def plan(self, **stages: dict[str, Any]) -> None:
        (self.folder / "plan.json").write_text(json.dumps(stages))

    def request(self, **changes: Any) -> LaunchRequest:
        return LaunchRequest(read_run_file([self.file], store=self.store), self.store, **changes)

    def launch(self, **changes: Any) -> RunResult:
        """Run in this process. `NOOP_PLAN` must be set; a fixture does that."""
        return launch(self.request(**changes), observer=self.display, command=noop_command)

    def start(self) -> "subprocess.Popen[bytes]":
        """Run in a new process, which a test may kill."""
        environ = {**os.environ, "NOOP_PLAN": str(self.folder), "PYTHONPATH": str(STAGES.parents[1])}
        environ.pop(ENV_POD_UID, None)
        command = [sys.executable, "-P", "-m", self.program, str(self.folder)]
        return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def calls(self) -> list[str]:
        """The stages in the order in which they were started."""
        path = self.folder / "calls"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.is_file() else []

    def given(self, stage: str) -> dict[str, Any]:
        """The input with which the stage was started last."""
        document: dict[str, Any] = json.loads((self.folder / f"{stage}.json").read_text())
        return document

    def manifests(self) -> list[str]:
        return sorted(path.parent.name for path in self.store.glob("models/*/*/v*/manifest.json"))

    def outputs(self, stage: str) -> dict[str, str]:
        """The sha256 of each output of a stage, by name, from the engine's record."""
        record = json.loads((self.store / ".atoll/engine/local/noop/run.json").read_text())
        found = next(item for item in record["status"]["stages"] if item["name"] == stage)
        return {item["name"]: item["sha256"] for item in found.get("outputs", [])}

    def processes(self) -> list[int]:
        """Every living process of this run."""
        mark = str(self.folder).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if state not in "ZX" and b"NOOP_PLAN=" + mark + b"\0" in environ + b"\0":
                found.append(int(entry.name))
        return found


def main(folder: Path) -> int:
    """`atoll run` with another command for the stages."""
    run = NoopRun(folder, (folder / "run.yaml").read_text())
    display = PlainDisplay()
    result = launch(
        run.request(),
        observer=display,
        on_start=Interruption(display).watch,
        command=noop_command,
    )
    return exit_status(result.status)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
