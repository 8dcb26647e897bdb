"""The logs of a local run's stages: where they lie, the progress in them, and their lines as they come."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from atoll_cli.local.state import RunFolder
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress, parse_line


@dataclass(frozen=True)
class StageLog:
    """The file with what one attempt of a stage wrote."""

    stage: Stage
    attempt: int
    path: Path

    @property
    def job(self) -> str:
        """The Job of the attempt."""
        return self.path.parent.name


def stage_logs(folder: RunFolder) -> list[StageLog]:
    """The logs of all attempts of the run, in the order in which they were last written."""
    number = rf"({'|'.join(Stage)})-([1-9][0-9]*)"
    own = re.compile(rf"[^/]+/{number}\.log")
    # An earlier version gave each Job one stage, and its log another name.
    earlier = re.compile(rf"{re.escape(folder.name)}-{number}-[0-9a-f]{{8}}/output\.log")
    paths = [(path, f"{path.parent.name}/{path.name}") for path in folder.jobs.glob("*/*.log")]
    found = [
        (modified(path), StageLog(Stage(match[1]), int(match[2]), path))
        for path, name in paths
        if (match := own.fullmatch(name) or earlier.fullmatch(name))
    ]
    return [log for _, log in sorted(found, key=lambda item: (item[0], item[1].attempt))]


def progress_in(log: Path, max_bytes: int) -> Iterator[Progress]:
    """The progress that the last `max_bytes` of a log have, in its order."""
    for line in last_text(log, max_bytes).splitlines():
        progress = parse_line(line)
        if progress is not None:
            yield progress


def last_text(log: Path, max_bytes: int) -> str:
    """The end of a log; empty where there is none (any more)."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - max_bytes))
            return stream.read(max_bytes).decode(errors="replace")
    except FileNotFoundError:
        return ""


def modified(path: Path) -> float:
    """When the file was last written; 0 where there is none (any more)."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@dataclass
class LogReader:
    """Reads what the stages of a run write: the newest attempt of stage `first` and, unless `only`, all that follow."""

    folder: RunFolder
    first: Stage | None
    only: bool
    _offsets: dict[Path, int] = field(default_factory=dict)

    def new_lines(self, *, whole: bool = False) -> Iterator[str]:
        """The lines that have come since the last call. An unfinished last line is left for the next call, unless the
        log is `whole`. A heading on standard error names each attempt."""
        for log in self._chosen():
            if log.path not in self._offsets:
                click.echo(f"== {log.stage}, attempt {log.attempt}, {log.path}", err=True)
            with log.path.open("rb") as stream:
                stream.seek(self._offsets.get(log.path, 0))
                data = stream.read()
            end = len(data) if whole else data.rfind(b"\n") + 1
            self._offsets[log.path] = self._offsets.get(log.path, 0) + end
            yield from (line.decode(errors="replace") for line in data[:end].splitlines())

    def _chosen(self) -> list[StageLog]:
        logs = stage_logs(self.folder)
        wanted = [number for number, log in enumerate(logs) if self.first in (None, log.stage)]
        if self._offsets:
            # Attempts that begin after the first call, and those that it has read.
            start = min((number for number, log in enumerate(logs) if log.path in self._offsets), default=0)
        elif not wanted:
            return []
        else:
            start = wanted[-1]
        return [log for log in logs[start:] if not self.only or log.stage is self.first]
