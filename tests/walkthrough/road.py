"""Walks the page: runs its commands one after the other in a folder that is empty at first."""

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atoll_edge.demo import free_ports
from support.polling import wait_until
from walkthrough.page import Command, File, Part

# A run's command is the longest: an hour on a loaded machine.
COMMAND_SECONDS = 3600
# How many doubtful frames the robot's camera is waited for.
HARVESTED = 12
HOME = "~/robot"
ROBOT = "atoll-edge run "
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d |INFO: ")


class Road:
    """A folder on the way. `quick` makes the first training short; `on_robot` is called with the address of the
    device's status page while the device serves the release."""

    def __init__(self, folder: Path, *, quick: bool, on_robot: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self.quick = quick
        self._on_robot = on_robot
        self.outputs: dict[str, str] = {}

    def walk(self, parts: Iterator[Part]) -> Iterator[Command]:
        """Each command after it was run; its output is in `outputs`."""
        for part in parts:
            if isinstance(part, File):
                (self.folder / part.name).write_text(self._own_ports(part.text))
            else:
                self.outputs[part.line] = self._run(part.line)
                self._after(part.line)
                yield part

    def _run(self, line: str) -> str:
        words = shlex.split(line)
        program = [sys.executable, "-P", "-m", *MODULES[words[0]], *words[1:]]
        if line.startswith(ROBOT):
            return self._serve(program)
        done = subprocess.run(
            program,
            cwd=self.folder,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{line} ended with {done.returncode}:\n{done.stdout[-4000:]}"
        return self._homely(done.stdout)

    def _serve(self, program: list[str]) -> str:
        """The device's program does not end by itself: it is stopped once its frames are in the bucket."""
        with self._served(program) as log:
            address = wait_until(lambda: _page_in(log), what="the status page's address", timeout_seconds=120)
            wait_until(lambda: _answers(f"{address}readyz"), what="a proven release", timeout_seconds=180)
            frames = self.folder / "atoll-store" / "harvest"
            wait_until(lambda: len(list(frames.rglob("*.jpg"))) >= HARVESTED, what="harvest", timeout_seconds=300)
            self._on_robot(address)
        # What it logs depends on the moment; what it prints does not.
        printed = [line for line in log.read_text().splitlines() if not _LOGGED.match(line)]
        return self._homely("\n".join(printed) + "\n")

    @contextmanager
    def _served(self, program: list[str]) -> Iterator[Path]:
        log = self.folder / "robot.log"
        with log.open("wb") as out:
            process = subprocess.Popen(program, cwd=self.folder, env=self._environ(), stdout=out, stderr=out)
            try:
                yield log
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _after(self, line: str) -> None:
        """A quick walk trains the smaller detector, for fewer steps."""
        if not self.quick or not line.startswith("atoll new"):
            return
        named = re.search(r"--to (\S+\.yaml)", line)
        path = self.folder / (named[1] if named else "run.yaml")
        text = path.read_text()
        for pattern, short in QUICK if named is None else QUICK_AGAIN:
            text, count = re.subn(pattern, short, text)
            assert count == 1, f"{path.name} has {pattern} {count} times"
        path.write_text(text)

    def _environ(self) -> dict[str, str]:
        """A plain shell of somebody at home in the folder."""
        dropped = {"ATOLL_STORE", "KUBECONFIG", "ATOLL_WEIGHTS_DIR"}
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        return {**kept, "HOME": str(self.folder), "COLUMNS": "160", "TF_CPP_MIN_LOG_LEVEL": "3"}

    def _own_ports(self, text: str) -> str:
        """Ports that are free here, in place of the well-known ones."""
        page, raw, annotated, tables = free_ports(4)
        own = f"http: {{port: {page}}}\nstreams: {{rawPort: {raw}, annotatedPort: {annotated}}}\n"
        return text.replace("team: 190", f'ntServer: "127.0.0.1:{tables}"') + own

    def _homely(self, text: str) -> str:
        text = text.replace(str(self.folder.resolve()), HOME).replace(str(self.folder), HOME)
        return re.sub(r"http://localhost:\d+/", "http://localhost:5808/", text)


def _page_in(log: Path) -> str | None:
    found = re.search(r"status page: http://localhost:(\d+)/", log.read_text())
    return f"http://127.0.0.1:{found[1]}/" if found else None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


MODULES = {"atoll": ["atoll_cli.main"], "atoll-edge": ["atoll_edge.cli"]}
QUICK = (
    (r"architecture: ssd-mobilenet-v2-fpnlite-320", "architecture: ssd-mobilenet-v2-fpnlite-192"),
    (r'width: "0\.5"', 'width: "0.35"'),
    (r"steps: \d+", "steps: 400"),
    # So short a training may end below the file's floor, and the road goes on with its release.
    (r'minAP50: "0\.2"', 'minAP50: "0"'),
)
QUICK_AGAIN = (*QUICK[3:], (r"steps: \d+", "steps: 100"))
