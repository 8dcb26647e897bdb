"""Work that takes longer than a browser waits: started, asked after, one at a time."""

import logging
import secrets
import signal
import subprocess
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from atoll_cli.local.runfile import read_run_file
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.files import written_whole
from atoll_operator.kube.errors import ClusterError

logger = logging.getLogger(__name__)

Document = Mapping[str, Any]
# Is told in a sentence what the errand is at.
Told = Callable[[str], None]

MOST = 100


def answered(work: Callable[[], Document]) -> tuple[HTTPStatus, Document]:
    """The answer to a request: what the work gives, or why it cannot, as a sentence. The page's one broad except: a
    fault in one answer must not end the training that runs beside it."""
    try:
        return HTTPStatus.OK, work()
    except AtollError as error:
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": error.message, "reason": str(error.reason)}
    except (ClusterError, OSError) as error:
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error), "reason": "InternalError"}
    except Exception:
        logger.exception("a request failed")
        words = "a fault of Atoll itself; the terminal of atoll ui has the details"
        return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": words, "reason": "InternalError"}


class Errands:
    """Runs one errand after the other; keeps the newest answers."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="errand")
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Document] = OrderedDict()

    def start(self, work: Callable[[Told], Document]) -> Document:
        """`{"errand": id}`, with which its state can be asked for."""
        number = secrets.token_hex(8)
        self._note(number, {"state": "waiting", "words": "waiting for its turn"})
        self._pool.submit(self._run, number, work)
        return {"errand": number}

    def state(self, number: str) -> Document | None:
        """`state` is waiting, working, done or refused; with the answer's fields once it is there."""
        with self._lock:
            return self._known.get(number)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, number: str, work: Callable[[Told], Document]) -> None:
        def tell(words: str) -> None:
            self._note(number, {"state": "working", "words": words})

        tell("at work")
        status, document = answered(lambda: work(tell))
        self._note(number, {"state": "done" if status is HTTPStatus.OK else "refused", **document})

    def _note(self, number: str, state: Document) -> None:
        with self._lock:
            self._known[number] = state
            while len(self._known) > MOST:
                self._known.popitem(last=False)


# From the file of a run, and the folder of the engine, to the command that runs it.
RunCommand = Callable[[Path, Path], Sequence[str]]

# The stage saves its checkpoint first.
END_SECONDS = 90.0
MOST_PROBLEMS = 50


def own_atoll(file: Path, store: Path) -> Sequence[str]:
    """`atoll run` with this program's own Python."""
    arguments = ["run", "-f", str(file), "--store", str(store), "--json"]
    return [sys.executable, "-P", "-m", "atoll_cli.main", *arguments]


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
