"""The log that the end-to-end tests print: one line for each step, with the time since the beginning."""

from __future__ import annotations

import time


class StepLog:
    """Prints at once, so that somebody who waits sees the progress. Run pytest with -s."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def add(self, text: str) -> None:
        elapsed = int(time.monotonic() - self._started)
        print(f"[{elapsed // 60:2d}:{elapsed % 60:02d}] {text}", flush=True)

    def show(self, text: str) -> None:
        """Prints a command's output, indented below its step."""
        for line in text.rstrip().splitlines():
            print(f"          {line}", flush=True)
