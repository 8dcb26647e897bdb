"""What the child does when its parent is gone: save, and end with everything that it started."""

import os
import signal
import threading
import time

from atoll_stages.grace import kill_after

BLOCK = 65536


class ParentWatch:
    """Watches `alive`, a pipe whose other end the parent holds and never writes to: its end is the parent's end.

    `output` is the reading end of the child's own standard output. As long as the child holds it too, no print fails
    for want of a reader while the stage saves.
    """

    def __init__(self, alive: int, output: int, stop: threading.Event) -> None:
        self._alive = alive
        self._output = output
        self._stop = stop
        self.gone = threading.Event()

    def start(self) -> None:
        for descriptor in (self._alive, self._output):
            os.set_inheritable(descriptor, False)
        threading.Thread(target=self._watch, name="parent-watch", daemon=True).start()

    def end_group(self) -> None:
        """Kill this process and all that it started."""
        os.killpg(os.getpgid(0), signal.SIGKILL)

    def _watch(self) -> None:
        os.read(self._alive, 1)
        self.gone.set()
        self._stop.set()
        threading.Thread(target=self._discard_output, name="output", daemon=True).start()
        time.sleep(kill_after(os.environ))
        self.end_group()

    def _discard_output(self) -> None:
        while os.read(self._output, BLOCK):
            pass
