"""A run of the local engine that really converts and trains, in a process that a test kills; what follows does no work.

`python -m support.trained_run FOLDER`, as `support.noop_run`, with the archive `field.tar` in the folder.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from atoll_cli.commands.run import Interruption
from atoll_cli.console import exit_status
from atoll_cli.local.jobs import StageCommand, with_own_python
from atoll_cli.local.launch import launch
from atoll_cli.run_display import PlainDisplay
from atoll_contract.stage import ENV_INPUT, ENV_WORKER_INDEX, Stage
from atoll_contract.stage_result import parse_line
from support.noop_run import NoopRun, noop_command

ARCHIVE = "field.tar"


def trained_command(stage: Stage, command: Sequence[str]) -> Sequence[str]:
    return (with_own_python if stage in (Stage.CONVERT, Stage.TRAIN) else noop_command)(stage, command)


class TrainedRun(NoopRun):
    """`folder` has the archive."""

    program = "support.trained_run"

    def step(self, attempt: int) -> int:
        """The step that this attempt of the training has told, by itself or as that of its checkpoint; 0 for none."""
        steps = [0]
        for path in self.store.glob(f".atoll/engine/*/*/jobs/*/train-{attempt}.log"):
            parsed = (parse_line(line) for line in path.read_text(errors="replace").splitlines())
            steps += [max(told.step or 0, told.checkpoint_step or 0) for told in parsed if told is not None]
        return max(steps)

    def attempts(self) -> int:
        """How many attempts of the training have begun; a log is there from the beginning on."""
        logs = self.store.glob(".atoll/engine/*/*/jobs/*/train-*.log")
        return max((int(path.stem.partition("-")[2]) for path in logs), default=0)

    def finish(self, *, seconds: float) -> str:
        """Runs it to its end; the sha256 of its weights."""
        with self.start() as engine:
            _, errors = engine.communicate(timeout=seconds)
        assert engine.returncode == 0, errors.decode(errors="replace")[-4000:]
        return self.outputs("train")["weights"]

    def workers(self, index: int) -> list[int]:
        """The processes of this worker of the training."""
        found = []
        for pid in self.processes():
            with suppress(OSError):
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                given = next((item for item in environ if item.startswith(f"{ENV_INPUT}=".encode())), b"")
                if b'"stage":"train"' in given and f"{ENV_WORKER_INDEX}={index}".encode() in environ:
                    found.append(pid)
        return found


def main(folder: Path, command: StageCommand = trained_command) -> int:
    run = TrainedRun(folder, (folder / "run.yaml").read_text())
    display = PlainDisplay()
    result = launch(
        run.request(data=(folder / ARCHIVE,)),
        observer=display,
        on_start=Interruption(display).watch,
        command=command,
    )
    return exit_status(result.status)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
