"""A sweep of the local engine with the stages of `noop_stages`, in this process or in one of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll_cli.commands.run import Interruption
from atoll_cli.local.engine import RunObserver, SilentObserver
from atoll_cli.local.sweep_state import local_sweep, runs_of
from atoll_cli.local.sweepfile import read_sweep_file
from atoll_cli.local.sweeps import SweepEngine, SweepRequest
from atoll_cli.run_display import PlainDisplay
from atoll_cli.sweeps import sweep_exit_status
from atoll_contract.stage import ENV_POD_UID
from atoll_operator.api.sweep import SweepStatus
from atoll_operator.sweeps.trials import Trial, trials_of
from support.noop_run import STAGES, noop_command

SWEEP = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingSweep
metadata: { name: ball }
spec:
  template:
    spec:
      datasets: [{ key: datasets/local/pictures.tar }]
      training: { steps: 18 }
      publish: { model: ball }
  parameters: [{ name: learningRate, values: ["0.0001", "0.0004", "0.004", "0.04"] }]
  trials: 4
"""
# Six trials with rungs at the steps 20 and 30.
HALVED = (
    SWEEP.replace("steps: 18", "steps: 60, evalEverySteps: 10")
    .replace('"0.004", "0.04"', '"0.001", "0.004", "0.01", "0.04"')
    .replace("trials: 4", "trials: 6\n  algorithm: grid")
)


@dataclass
class RecordedSweep:
    """An observer that records the sentences."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def run(self, name: str) -> RunObserver:
        return SilentObserver()


@dataclass
class NoopSweep:
    """One sweep file and one store below `folder`; `NOOP_PLAN` must name that folder."""

    folder: Path
    text: str = SWEEP

    def __post_init__(self) -> None:
        self.store = self.folder / "store"
        self.display = RecordedSweep()
        (self.folder / "sweep.yaml").write_text(self.text)

    def plan(self, **train: Any) -> None:
        (self.folder / "plan.json").write_text(json.dumps({"train": {"steps": 18, "scores": True} | train}))

    def engine(self) -> SweepEngine:
        file = read_sweep_file([self.folder / "sweep.yaml"], store=self.store)
        return SweepEngine(SweepRequest(file), self.display, noop_command)

    def run(self) -> SweepStatus:
        return self.engine().run()

    def start(self) -> "subprocess.Popen[bytes]":
        """Run in a new process, which a test may kill."""
        environ = {**os.environ, "NOOP_PLAN": str(self.folder), "PYTHONPATH": str(STAGES.parents[1])}
        environ.pop(ENV_POD_UID, None)
        command = [sys.executable, "-P", "-m", "support.noop_sweep", str(self.folder)]
        return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def runs(self) -> dict[str, dict[str, Any]]:
        return runs_of(self.engine().folder)

    def trials(self) -> list[Trial]:
        _, record = local_sweep(self.store, "ball")
        return trials_of(record.manifest, self.runs().values())

    def settings(self) -> dict[str, str]:
        return {name: run["metadata"]["annotations"]["atoll.dev/parameters"] for name, run in self.runs().items()}

    def releases(self) -> list[str]:
        return sorted(path.parent.name for path in self.store.glob("models/*/*/v*/manifest.json"))


def main(folder: Path) -> int:
    """`atoll sweep` with another command for the stages."""
    engine = NoopSweep(folder, (folder / "sweep.yaml").read_text()).engine()
    Interruption(PlainDisplay()).watch(engine)
    return sweep_exit_status(engine.run())


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
