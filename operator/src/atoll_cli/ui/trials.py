"""Runs the int8 model of a release on single images: a child process loads the model once and then waits for more."""

import json
import queue
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from atoll_cli.releases import Origin, PublishedRelease, read_manifest
from atoll_cli.tool import ADVICE
from atoll_cli.ui.datasets import Workspace
from atoll_contract import keys
from atoll_contract.errors import AtollError, Reason, SpecError
from atoll_contract.release import release_parts

MODULE = "atoll_edge.video.still_images"
MAX_IMAGE_BYTES = 25 * 2**20
# Loading the model on a busy machine; an image takes less.
ANSWER_SECONDS = 60.0
# A model that nobody uses for so long is let go.
IDLE_SECONDS = 120.0


class ImageDetector:
    """The model of the release that was tried last, in a process of its own. Several threads may ask at once."""

    def __init__(self, workspace: Workspace, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._workspace = workspace
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._release = ""
        self._child: _ModelProcess | None = None
        self._timer: threading.Timer | None = None

    def detect(self, release: str, data: bytes) -> dict[str, Any]:
        """The detections in an image file, with boxes relative to the upright image.

        Raises:
            SpecError: there is no such release, it is no image, or the detector is not installed.
            IntegrityError: the release's files are damaged.
        """
        with self._lock:
            self._stop_timer()
            try:
                return self._process(release).detect(data)
            except _ProcessEnded:
                self._end()
                raise SpecError(f"the detector of {release} ended without an answer; try again") from None
            finally:
                self._start_timer()

    def close(self) -> None:
        with self._lock:
            self._stop_timer()
            self._end()

    def _process(self, release: str) -> "_ModelProcess":
        if self._child is None or self._release != release:
            self._end()
            model, version = release_parts(release)
            workspace = self._workspace
            manifest = read_manifest(workspace.store, workspace.namespace, release)
            data = workspace.store.get(keys.manifest(workspace.namespace, model, version))
            origin = Origin(workspace.store, workspace.namespace, model, version)
            self._child, self._release = _ModelProcess(PublishedRelease(origin, manifest, data)), release
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child, self._release = None, ""

    def _start_timer(self) -> None:
        if self._child is not None:
            self._timer = threading.Timer(self._idle_seconds, self.close)
            self._timer.daemon = True
            self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None


class _ProcessEnded(Exception):
    """The process ended, or gave no answer in time."""


class _ModelProcess:
    """A process with a loaded model, and a folder with the model's files and the image that it reads.

    Raises:
        AtollError: the model cannot be fetched or loaded.
    """

    def __init__(self, release: PublishedRelease) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="atoll-ui-model-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[str] | None = None
        try:
            model = release.fetch_model(Path(self._folder.name) / "release")
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, "--model", str(model)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                # Ctrl-C in the terminal reaches the page alone, which ends its processes.
                start_new_session=True,
            )
            self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
            threading.Thread(target=self._read, daemon=True).start()
            first = self._answer()
            if "reason" in first:
                raise AtollError(Reason(first["reason"]), first["message"])
        except _ProcessEnded:
            self.close()
            raise SpecError(f"the detector did not start; {ADVICE}") from None
        except BaseException:
            self.close()
            raise

    def detect(self, data: bytes) -> dict[str, Any]:
        image = Path(self._folder.name) / "image"
        image.write_bytes(data)
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{image}\n")
            self._process.stdin.flush()
        except OSError:
            raise _ProcessEnded from None
        answer = self._answer()
        if "error" in answer:
            raise SpecError(f"the image was not taken: {answer['error']}")
        return answer

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._folder.cleanup()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put("")

    def _answer(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._lines.get(timeout=ANSWER_SECONDS))
        except (queue.Empty, ValueError):
            raise _ProcessEnded from None
        return answer
