"""Programs of the other packages, run as processes: one JSON document out, lines of progress on standard error."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import AtollError, Reason, SpecError
from atoll_contract.stage import Architecture
from atoll_contract.stage_result import Progress, parse_line
from atoll_contract.tool_reports import LintReport, Timing

# A tool that says nothing for so long hangs: each tells its progress every few seconds once it works.
SILENCE_SECONDS = 300.0
END_SECONDS = 10.0


def run_tool(
    module: str, arguments: Sequence[str], *, extras: str, title: str, silence_seconds: float = SILENCE_SECONDS
) -> dict[str, Any]:
    """What `python -m module` prints as JSON; a bar shows its progress where somebody looks. `extras` are what it
    needs of Atoll's package.

    Raises:
        AtollError: what the tool refused, with its reason; or it crashed, hung, or is not installed.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert child.stdout is not None
    assert child.stderr is not None
    output, lines = _collected(child.stdout), _lines(child.stderr)
    last = "it said nothing"
    try:
        with Bar(title) as show:
            while (line := lines.get(timeout=silence_seconds)) is not None:
                progress = parse_line(line)
                if progress is not None:
                    show(progress)
                elif line.strip():
                    last = line.strip()
        child.wait(END_SECONDS)
    except (queue.Empty, subprocess.TimeoutExpired):
        raise SpecError(f"{module} said nothing for {silence_seconds:.0f} s and was ended: {last}") from None
    finally:
        _end(child)
    return _document(module, child.returncode, output(), last=last, extras=extras)


def _document(module: str, code: int, text: str, *, last: str, extras: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
    except ValueError:
        if code == -signal.SIGINT or code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None
        if code < 0:
            raise AtollError(Reason.INTERNAL_ERROR, f"{module} crashed (signal {-code}): {last}") from None
        advice = f"it needs pip install '.[{extras}]' in a checkout of Atoll"
        raise SpecError(f"{module} ended with exit code {code}: {last}; {advice}") from None
    if "reason" in document:
        raise AtollError(Reason(document["reason"]), document["message"])
    return document


def _collected(stream: IO[str]) -> Callable[[], str]:
    """Reads the stream to its end in a thread, so that the tool never waits for its reader."""
    parts: list[str] = []

    def read() -> None:
        with stream:
            parts.append(stream.read())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()

    def text() -> str:
        thread.join(END_SECONDS)
        return "".join(parts)

    return text


def _lines(stream: IO[str]) -> queue.SimpleQueue[str | None]:
    """The stream's lines as they come, then None."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        with stream:
            for line in stream:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _end(child: subprocess.Popen[str]) -> None:
    """After Ctrl-C the tool cleans up by itself: the terminal told it, too."""
    try:
        child.wait(END_SECONDS if sys.exc_info()[0] is KeyboardInterrupt else 0)
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Bar:
    """A tool's progress on standard error; nothing where nobody looks."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._title = title
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bars.add_task(title, total=100)

    def __enter__(self) -> Callable[[Progress], None]:
        self._bars.start()
        return self._show

    def __exit__(self, *details: object) -> None:
        self._bars.stop()

    def _show(self, progress: Progress) -> None:
        self._bars.update(self._task, completed=progress.percent, description=progress.message or self._title)


T = TypeVar("T")

LINT_SECONDS = 3600
TIMING_SECONDS = 600


class ToolMissing(SpecError):
    """The program did not answer: most likely its extra is not installed here."""


def inspected(paths: Sequence[Path]) -> LintReport:
    """What a run would make of the archives, taken together as one data set.

    Raises:
        ToolMissing: the convert stage is not installed here.
        SpecError: it took too long.
    """
    shown = ", ".join(str(path) for path in paths)
    arguments = ["atoll_stages.convert", "--lint", *(str(path) for path in paths), "--json"]
    return _asked(LintReport, arguments, seconds=LINT_SECONDS, what=f"{shown} could not be checked", extra="stages")


def timed(look: LintReport, architecture: Architecture, *, on_cpu: str, on_gpu: str, steps: int) -> Timing:
    """How fast this machine trains on what `look` has seen; the settings (as `0.5x8`) are those without and with a
    GPU, and the one that TensorFlow would train with is timed.

    Raises:
        ToolMissing: the train stage is not installed here.
        SpecError: it took too long.
    """
    split = look.split or {}
    validation = split.get("validation", 0)
    options = {
        "--time": str(architecture),
        "--on-cpu": on_cpu,
        "--on-gpu": on_gpu,
        "--steps": str(steps),
        "--classes": str(max(1, len(look.classes))),
        "--train": str(split.get("train", 0)),
        "--validation": str(validation),
        "--measured": str(split.get("test") or validation),
    }
    arguments = ["atoll_stages.train", *(part for option in options.items() for part in option)]
    return _asked(Timing, arguments, seconds=TIMING_SECONDS, what="this machine could not be timed", extra="train")


def _asked(cls: type[T], arguments: Sequence[str], *, seconds: int, what: str, extra: str) -> T:
    command = [sys.executable, "-P", "-m", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise SpecError(f"{what} within {seconds} s") from None
    try:
        return from_json(cls, done.stdout)
    except DecodeError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ToolMissing(f"{what}: {last}; it needs pip install '.[{extra}]' in a checkout of Atoll") from None
