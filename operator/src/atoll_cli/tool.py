"""Runs programs of the other packages as processes, which print one JSON document, and progress on standard error."""

from __future__ import annotations

import errno
import json
import math
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from atoll_cli.console import stage_progress
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import AtollError, Reason, SpecError
from atoll_contract.installation import INSTALL_LAPTOP
from atoll_contract.stage_result import Progress, parse_line
from atoll_contract.tool_reports import LintReport, Timing, WeightsFile
from atoll_contract.train_spec import Architecture, InitFrom, TrainedOn

T = TypeVar("T")

# A tool that prints nothing for this long hangs: each reports its progress every few seconds.
SILENCE_SECONDS = 300.0
LINT_SECONDS = 3600
# 9 MB, also over a slow line.
WEIGHTS_SECONDS = 1800
TIMING_SECONDS = 600
# How long a tool that was asked to end may take.
GRACE_SECONDS = 10.0
# How often the wait for a tool looks whether its caller still wants it.
STOP_POLL_SECONDS = 0.2
ADVICE = f"it needs {INSTALL_LAPTOP}"


class ToolMissing(SpecError):
    """The program printed no report: most likely its extra is not installed here."""


def run_tool(
    module: str, arguments: Sequence[str], *, title: str, silence_seconds: float = SILENCE_SECONDS
) -> dict[str, Any]:
    """The JSON document that `python -m module` prints; its progress is shown as a bar.

    Raises:
        AtollError: the tool refused, with its reason; or it crashed, hung, or is not installed.
    """
    try:
        with stage_progress(title) as show:
            ended = _run(module, arguments, silence_seconds=silence_seconds, show=show)
    except _TimedOut as error:
        raise SpecError(f"{module} said nothing for {silence_seconds:.0f} s and was ended: {error}") from None
    try:
        document: dict[str, Any] = json.loads(ended.output)
    except ValueError:
        if ended.code == -signal.SIGINT or ended.code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None
        if ended.code < 0:
            message = f"{module} crashed (signal {-ended.code}): {ended.last_line}"
            raise AtollError(Reason.INTERNAL_ERROR, message) from None
        raise _without_document(f"{module} ended with exit code {ended.code}", ended) from None
    if "reason" in document:
        raise AtollError(Reason(document["reason"]), document["message"])
    return document


def lint_archives(
    paths: Sequence[Path], *, max_invalid_percent: float | None = None, gallery: Path | None = None
) -> LintReport:
    """What a run would make of the archives, taken together as one data set, with its limit for bad labels. A
    `gallery` is a folder that gets thumbnails of some images.

    Raises:
        ToolMissing: the convert stage is not installed here.
        SpecError: it took too long.
    """
    failure = f"{', '.join(str(path) for path in paths)} could not be checked"
    arguments = ["--lint", *(str(path) for path in paths), "--json"]
    if max_invalid_percent is not None:
        arguments += ["--max-invalid-percent", f"{max_invalid_percent:g}"]
    if gallery is not None:
        arguments += ["--gallery", str(gallery)]
    return _report(LintReport, "atoll_stages.convert", arguments, LINT_SECONDS, failure=failure)


def time_training(
    report: LintReport,
    architecture: Architecture,
    *,
    on_cpu: str,
    on_gpu: str,
    start: InitFrom,
    steps: int,
    stop: threading.Event | None = None,
) -> Timing:
    """How fast this machine trains on the archives of `report`. `on_cpu` and `on_gpu` are the settings (as `0.5x8`)
    without and with a GPU; those that TensorFlow would train with are timed. Setting `stop` ends it early.

    Raises:
        ToolMissing: the train stage is not installed here.
        SpecError: it took too long, or was stopped.
    """
    split = report.split or {}
    validation = split.get("validation", 0)
    options = {
        "--time": str(architecture),
        "--on-cpu": on_cpu,
        "--on-gpu": on_gpu,
        "--start": str(start),
        "--steps": str(steps),
        "--classes": str(max(1, len(report.classes))),
        "--train": str(split.get("train", 0)),
        "--validation": str(validation),
        "--measured": str(split.get("test") or validation),
    }
    arguments = [part for option in options.items() for part in option]
    failure = "this machine could not be timed"
    return _report(Timing, "atoll_stages.train", arguments, TIMING_SECONDS, failure=failure, stop=stop)


def fetch_weights(width: float, source: Path | None, folder: Path, *, trained_on: TrainedOn) -> WeightsFile:
    """Pretrained weights of a width, checked, as a file in `folder`; from the file `source` where there is one.

    Raises:
        ToolMissing: the train stage is not installed here.
        SpecError: there are none, or it took too long.
    """
    arguments = ["--weights", f"{width}", "--trained-on", trained_on, "--to", str(folder)]
    arguments += ["--from", str(source)] if source else []
    failure = "the pretrained weights could not be fetched"
    found = _report(WeightsFile, "atoll_stages.train", arguments, WEIGHTS_SECONDS, failure=failure)
    if found.problem is not None:
        raise SpecError(found.problem, Reason.WEIGHTS_NOT_FOUND)
    return found


def _report(
    cls: type[T],
    module: str,
    arguments: Sequence[str],
    seconds: int,
    *,
    failure: str,
    stop: threading.Event | None = None,
) -> T:
    try:
        ended = _run(module, arguments, seconds=seconds, stop=stop)
    except _TimedOut:
        raise SpecError(f"{failure} within {seconds} s") from None
    except _Stopped:
        raise SpecError(f"{failure}: it was stopped") from None
    try:
        return from_json(cls, ended.output)
    except DecodeError:
        raise _without_document(failure, ended) from None


def _without_document(failure: str, ended: _Ended) -> AtollError:
    """Why a program has printed no document, as far as its last line tells."""
    if f"[Errno {errno.ENOSPC}]" in ended.last_line:
        return AtollError(Reason.EPHEMERAL_STORAGE_EXCEEDED, f"{failure}: the disk is full; free some space")
    missing = "No module named" in ended.last_line
    return ToolMissing(f"{failure}: {ended.last_line}" + (f"; {ADVICE}" if missing else ""))


@dataclass(frozen=True)
class _Ended:
    """How a program ended. `last_line` is the last one on standard error that is not progress."""

    code: int
    output: str
    last_line: str


class _TimedOut(Exception):
    """The program took too long and was ended; the message is its last line."""


class _Stopped(Exception):
    """The program was ended because its caller no longer wants its result."""


def _run(
    module: str,
    arguments: Sequence[str],
    *,
    silence_seconds: float = math.inf,
    seconds: float = math.inf,
    show: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> _Ended:
    """Run `python -m module` to its end, for at most `seconds` in all and `silence_seconds` without a line on standard
    error. No process is left behind.

    Raises:
        _TimedOut: it took longer.
        _Stopped: `stop` was set.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    last_line = "it said nothing"
    deadline = time.monotonic() + seconds
    # A file instead of a pipe: the program never waits for its reader.
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE)
        assert child.stderr is not None
        lines = _lines(child.stderr)
        try:
            while (line := _next(lines, min(silence_seconds, deadline - time.monotonic()), stop)) is not None:
                progress = parse_line(line)
                if progress is not None:
                    show(progress)
                elif line.strip():
                    last_line = line.strip()
            child.wait(GRACE_SECONDS)
        except (queue.Empty, subprocess.TimeoutExpired):
            raise _TimedOut(last_line) from None
        finally:
            _end(child)
        output.seek(0)
        return _Ended(child.returncode, output.read().decode(errors="replace"), last_line)


def _next(lines: queue.SimpleQueue[str | None], seconds: float, stop: threading.Event | None) -> str | None:
    """The next line, waited for in short pieces where `stop` can end the wait. Raises queue.Empty, _Stopped."""
    if stop is None:
        return lines.get(timeout=_finite(seconds))
    until = time.monotonic() + seconds
    while not stop.is_set():
        left = until - time.monotonic()
        try:
            return lines.get(timeout=max(0.0, min(STOP_POLL_SECONDS, left)))
        except queue.Empty:
            if left <= STOP_POLL_SECONDS:
                raise
    raise _Stopped


def _finite(seconds: float) -> float | None:
    """A timeout in the form of the standard library: None for infinity, and never negative."""
    return None if math.isinf(seconds) else max(0.0, seconds)


def _lines(stream: IO[bytes]) -> queue.SimpleQueue[str | None]:
    """The stream's lines as they come, then None."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        with stream:
            for line in stream:
                lines.put(line.decode(errors="replace"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _end(child: subprocess.Popen[bytes]) -> None:
    """After Ctrl-C the tool cleans up by itself: the terminal has sent it the signal, too."""
    try:
        child.wait(GRACE_SECONDS if sys.exc_info()[0] is KeyboardInterrupt else 0)
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
