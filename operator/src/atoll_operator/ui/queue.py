"""Runs that the page starts: one `atoll run` after the other, each a process of its own."""

import logging
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atoll_contract.durable import written_whole
from atoll_contract.errors import SpecError
from atoll_operator.local.runfile import read_run_file

logger = logging.getLogger(__name__)

# From the file of a run, and the folder of the engine, to the command that runs it.
RunCommand = Callable[[Path, Path], Sequence[str]]

# The stage saves its checkpoint first.
END_SECONDS = 90.0
MOST_PROBLEMS = 50


def own_atoll(file: Path, store: Path) -> Sequence[str]:
    """`atoll run` with this program's own Python."""
    arguments = ["run", "-f", str(file), "--store", str(store), "--json"]
    return [sys.executable, "-P", "-m", "atoll_operator.cli.main", *arguments]


@dataclass
class _Work:
    name: str
    file: Path
    process: "subprocess.Popen[bytes]"
    asked_to_end: bool = field(default=False)


class RunQueue:
    """First come, first served. The machine is busy with one training; a second beside it would slow down both."""

    def __init__(self, store: Path, namespace: str, folder: Path, *, command: RunCommand = own_atoll) -> None:
        self._store = store
        self._namespace = namespace
        self._folder = folder
        self._command = command
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, Path]] = deque()
        self._work: _Work | None = None
        self._problems: dict[str, str] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._go_on, name="runs", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> list[str]:
        with self._changed:
            return [name for name, _ in self._waiting]

    @property
    def running(self) -> str | None:
        with self._changed:
            return self._work.name if self._work else None

    @property
    def problems(self) -> dict[str, str]:
        """Runs whose process ended with an error of its own, before the run could: what it said."""
        with self._changed:
            return dict(self._problems)

    def add(self, text: str, *, taken: Callable[[str], bool]) -> str:
        """Take a run.yaml into the queue; the run's name. `taken`: whether the engine has a run of this name.

        Raises:
            InvalidFile: it is not valid, with a line for each problem.
            SpecError: it holds not exactly one run, or one of another namespace, or of a name that is taken.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._changed:
            draft = self._folder / "run.yaml.draft"
            with written_whole(draft) as stream:
                stream.write(text.encode())
            run = read_run_file([draft], store=self._store)
            name = run.name
            if run.namespace != self._namespace:
                raise SpecError(f"the run is for namespace {run.namespace}, this page shows {self._namespace} (see -n)")
            if taken(name):
                raise SpecError(f"there is a run {name} already; give this one another metadata.name")
            self._require_idle(name)
            file = draft.replace(self._folder / f"{name}.yaml")
            self._waiting.append((name, file))
            self._changed.notify_all()
        return name

    def again(self, name: str) -> None:
        """Go on with a suspended, interrupted or failed run.

        Raises:
            SpecError: it waits or works already, or was not started from this page.
        """
        file = self._folder / f"{name}.yaml"
        if not file.is_file():
            raise SpecError(
                f"run {name} was not started from this page; its own command goes on with it: atoll run -f …"
            )
        with self._changed:
            self._require_idle(name)
            self._waiting.append((name, file))
            self._changed.notify_all()

    def suspend(self, name: str) -> None:
        """Take a run out of the queue, or end its stage with a checkpoint.

        Raises:
            SpecError: it does neither wait nor work here.
        """
        with self._changed:
            kept = [item for item in self._waiting if item[0] != name]
            if len(kept) < len(self._waiting):
                self._waiting = deque(kept)
                return
            if self._work is None or self._work.name != name:
                raise SpecError(
                    f"run {name} is not at work here; where it was started in a terminal, press Ctrl-C there"
                )
            self._interrupt(self._work)

    def close(self) -> str | None:
        """Suspend what runs; its name."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            work = self._work
            if work is not None:
                self._interrupt(work)
            self._changed.notify_all()
        self._thread.join(END_SECONDS)
        return work.name if work else None

    def _require_idle(self, name: str) -> None:
        if any(name == waiting for waiting, _ in self._waiting) or (self._work and self._work.name == name):
            raise SpecError(f"run {name} is in the queue already")

    def _interrupt(self, work: _Work) -> None:
        """Once: a second signal would end the stage without its checkpoint."""
        if not work.asked_to_end and work.process.poll() is None:
            work.process.send_signal(signal.SIGINT)
        work.asked_to_end = True

    def _go_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                name, file = self._waiting.popleft()
                self._problems.pop(name, None)
                if len(self._problems) > MOST_PROBLEMS:
                    self._problems.clear()
                try:
                    self._work = work = self._started(name, file)
                except OSError as error:
                    self._problems[name] = f"atoll run could not be started: {error}"
                    continue
            code = work.process.wait()
            with self._changed:
                self._work = None
                if code and (last := _last_line(self._folder / f"{name}.log")).startswith("error: "):
                    self._problems[name] = last.removeprefix("error: ")

    def _started(self, name: str, file: Path) -> _Work:
        # A session of its own: Ctrl-C in the terminal is this program's to pass on, once.
        with (self._folder / f"{name}.json").open("wb") as out, (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                list(self._command(file, self._store)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )
        return _Work(name, file, process)


def _last_line(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 4096))
        lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
