"""The logs of a local run's stages: the progress in them, and their last lines for people."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from atoll_cli.commands.logs import readable
from atoll_cli.local.state import RunFolder
from atoll_contract.errors import SpecError
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress, parse_line

# A line of progress has less than 200 bytes and comes every few seconds: this is more than a day.
_PROGRESS_BYTES = 4 * 2**20
_TAIL_BYTES = 64 * 2**10
_TAIL_LINES = 300
# The log of a Job that an earlier version made: it had one stage.
_EARLIER = "output.log"


class StageProgress(NamedTuple):
    """A line of progress, and the Job that printed it."""

    job: str
    progress: Progress


def training_progress(folder: RunFolder) -> Iterator[StageProgress]:
    """The steps of the train stage, attempt after attempt, from the logs, which outlive the engine and the page."""
    for path in _logs(folder, Stage.TRAIN):
        for progress in _progress(path, _PROGRESS_BYTES):
            if progress.step:
                yield StageProgress(path.parent.name, progress)


def newest_progress(folder: RunFolder, job: str) -> Progress | None:
    """The last progress that the newest stage of a Job printed; None if there is none."""
    logs = sorted(folder.job(job).glob("*.log"), key=_modified)
    found = list(_progress(logs[-1], _TAIL_BYTES)) if logs else []
    return found[-1] if found else None


def log_tail(folder: RunFolder, stage: str) -> dict[str, object]:
    """The last lines of the newest attempt of a stage, or of the newest stage if none is named; and which stages have
    a log.

    Raises:
        SpecError: there is no such stage.
    """
    if stage and stage not in list(Stage):
        raise SpecError(f"there is no stage {stage[:40]!r}; the stages are {', '.join(Stage)}")
    with_log = {str(item): logs[-1] for item in Stage if (logs := _logs(folder, item))}
    newest = max(with_log, key=lambda item: _modified(with_log[item]), default="")
    chosen = stage or newest
    if chosen not in with_log:
        return {"stage": chosen, "stages": list(with_log), "lines": []}
    lines = [readable(line) for line in _last_text(with_log[chosen], _TAIL_BYTES).splitlines()]
    return {"stage": chosen, "stages": list(with_log), "lines": lines[-_TAIL_LINES:]}


def _logs(folder: RunFolder, stage: Stage) -> list[Path]:
    """The logs of the attempts of a stage, the newest last."""
    names = (f"{folder.name}-*/{stage}-*.log", f"{folder.name}-{stage}-*/{_EARLIER}")
    return sorted((path for name in names for path in folder.jobs.glob(name)), key=_modified)


def _progress(path: Path, max_bytes: int) -> Iterator[Progress]:
    for line in _last_text(path, max_bytes).splitlines():
        progress = parse_line(line)
        if progress is not None:
            yield progress


def _last_text(path: Path, max_bytes: int) -> str:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - max_bytes))
            return log.read(max_bytes).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
