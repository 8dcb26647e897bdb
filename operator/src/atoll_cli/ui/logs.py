"""What the page shows of the logs of a local run: the training's steps, and the last lines of a stage."""

from collections.abc import Iterator
from typing import NamedTuple

from atoll_cli.commands.logs import readable
from atoll_cli.local.logs import last_text, progress_in, stage_logs
from atoll_cli.local.state import RunFolder
from atoll_contract.errors import SpecError
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress

# A line of progress has less than 200 bytes and comes every few seconds: this is more than a day.
_PROGRESS_BYTES = 4 * 2**20
_TAIL_BYTES = 64 * 2**10
_TAIL_LINES = 300


class StageProgress(NamedTuple):
    """A line of progress, and the Job that printed it."""

    job: str
    progress: Progress


def training_progress(folder: RunFolder) -> Iterator[StageProgress]:
    """The steps of the train stage, attempt after attempt, from the logs, which outlive the engine and the page."""
    for log in stage_logs(folder):
        if log.stage is Stage.TRAIN:
            steps = (item for item in progress_in(log.path, _PROGRESS_BYTES) if item.step)
            yield from (StageProgress(log.job, item) for item in steps)


def newest_progress(folder: RunFolder, job: str) -> Progress | None:
    """The last progress that the newest stage of a Job printed; None if there is none."""
    logs = [log for log in stage_logs(folder) if log.job == job]
    found = list(progress_in(logs[-1].path, _TAIL_BYTES)) if logs else []
    return found[-1] if found else None


def log_tail(folder: RunFolder, stage: str) -> dict[str, object]:
    """The last lines of the newest attempt of a stage, or of the newest stage if none is named; and which stages have
    a log.

    Raises:
        SpecError: there is no such stage.
    """
    if stage and stage not in list(Stage):
        raise SpecError(f"there is no stage {stage[:40]!r}; the stages are {', '.join(Stage)}")
    logs = stage_logs(folder)
    newest = {str(log.stage): log.path for log in logs}
    stages = [str(item) for item in Stage if str(item) in newest]
    chosen = stage or (str(logs[-1].stage) if logs else "")
    if chosen not in newest:
        return {"stage": chosen, "stages": stages, "lines": []}
    lines = [readable(line) for line in last_text(newest[chosen], _TAIL_BYTES).splitlines()]
    return {"stage": chosen, "stages": stages, "lines": lines[-_TAIL_LINES:]}
