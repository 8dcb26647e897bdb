"""What the end-to-end tests print as they go: one line for each thing done, with the time since the beginning."""

from __future__ import annotations

import time


class Story:
    """Prints at once, so that somebody who waits sees where it is. Run pytest with -s."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def tell(self, text: str) -> None:
        elapsed = int(time.monotonic() - self._started)
        print(f"[{elapsed // 60:2d}:{elapsed % 60:02d}] {text}", flush=True)

    def show(self, text: str) -> None:
        """A command's output, indented below what was told."""
        for line in text.rstrip().splitlines():
            print(f"          {line}", flush=True)
