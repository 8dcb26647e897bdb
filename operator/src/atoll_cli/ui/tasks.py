"""Work that takes longer than a browser waits, in two queues: short tasks, and trainings."""

import logging
import secrets
import signal
import subprocess
import sys
import threading
import time
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

JsonObject = Mapping[str, Any]
# Takes a sentence on what a task is doing.
Notify = Callable[[str], None]
# Maps the file of a run and the folder of the engine to the command that runs it.
RunCommand = Callable[[Path, Path], Sequence[str]]

MAX_TASKS = 100
MAX_PROBLEMS = 50
# A stage that is stopped saves its checkpoint first.
END_SECONDS = 90.0


def respond(work: Callable[[], JsonObject]) -> tuple[HTTPStatus, JsonObject]:
    """Do the work and return the response to its request: its document, or the error as a sentence.

    This is the page's only broad except: a defect in one response must not end the training of this process.
    """
    try:
        return HTTPStatus.OK, work()
    except AtollError as error:
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": error.message, "reason": str(error.reason)}
    except (ClusterError, OSError) as error:
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error), "reason": "InternalError"}
    except Exception:
        logger.exception("a request failed")
        message = "a fault of Atoll itself; the terminal of atoll ui has the details"
        return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": message, "reason": "InternalError"}


class TaskQueue:
    """Runs one task after the other and keeps the newest results."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="task")
        self._lock = threading.Lock()
        self._states: OrderedDict[str, JsonObject] = OrderedDict()

    def start(self, work: Callable[[Notify], JsonObject]) -> JsonObject:
        """Queue the work; return `{"task": id}`. The page asks for the state of the task by its id."""
        task = secrets.token_hex(8)
        self._set(task, {"state": "waiting", "message": "waiting for its turn"})
        self._pool.submit(self._run, task, work)
        return {"task": task}

    def state(self, task: str) -> JsonObject | None:
        """`state` is waiting, working, done or refused. The result of the work, or its error, is in the same object."""
        with self._lock:
            return self._states.get(task)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, task: str, work: Callable[[Notify], JsonObject]) -> None:
        def notify(message: str) -> None:
            self._set(task, {"state": "working", "message": message})

        notify("at work")
        status, document = respond(lambda: work(notify))
        self._set(task, {"state": "done" if status is HTTPStatus.OK else "refused", **document})

    def _set(self, task: str, state: JsonObject) -> None:
        with self._lock:
            self._states[task] = state
            while len(self._states) > MAX_TASKS:
                self._states.popitem(last=False)


def atoll_run_command(file: Path, store: Path) -> Sequence[str]:
    """`atoll run` with the Python of this process."""
    arguments = ["run", "-f", str(file), "--store", str(store), "-o", "json"]
    return [sys.executable, "-P", "-m", "atoll_cli.main", *arguments]


@dataclass
class _RunningProcess:
    name: str
    process: "subprocess.Popen[bytes]"
    interrupted: bool = False
    started: float = field(default_factory=time.time)

    def interrupt(self) -> None:
        """Send SIGINT once: a second one would end the stage without its checkpoint."""
        if not self.interrupted and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.interrupted = True


class RunQueue:
    """Runs one training after the other, in the order in which they came: two at once would slow each other down."""

    def __init__(self, store: Path, namespace: str, folder: Path, *, command: RunCommand = atoll_run_command) -> None:
        self._store = store
        self._namespace = namespace
        self._folder = folder
        self._command = command
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._running: _RunningProcess | None = None
        self._problems: dict[str, str] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> list[str]:
        with self._changed:
            return list(self._waiting)

    @property
    def running(self) -> str | None:
        with self._changed:
            return self._running.name if self._running else None

    def started_at(self, name: str) -> float | None:
        """When the process of the run was started; None if it has none."""
        with self._changed:
            return self._running.started if self._running and self._running.name == name else None

    def was_interrupted(self, name: str) -> bool:
        """Whether the process of the run was asked to end, and has not ended yet."""
        with self._changed:
            return self._running is not None and self._running.name == name and self._running.interrupted

    @property
    def problems(self) -> dict[str, str]:
        """The error messages of the processes that failed before their run began, by run."""
        with self._changed:
            return dict(self._problems)

    def add(self, text: str, *, exists: Callable[[str], bool]) -> str:
        """Put a run.yaml into the queue and return the run's name. `exists` returns whether the engine has a run of a
        name.

        Raises:
            InvalidFile: it is not valid, with a line for each problem.
            SpecError: it does not hold exactly one run, or one of another namespace, or one whose name is taken.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._changed:
            draft = self._folder / "run.yaml.draft"
            with written_whole(draft) as stream:
                stream.write(text.encode())
            run = read_run_file([draft], store=self._store)
            if run.namespace != self._namespace:
                raise SpecError(f"the run is for namespace {run.namespace}, this page shows {self._namespace} (see -n)")
            if exists(run.name):
                raise SpecError(f"there is a run {run.name} already; give this one another metadata.name")
            self._enqueue(run.name)
            draft.replace(self._file(run.name))
        return run.name

    def resume(self, name: str, *, at_rest: bool = False) -> None:
        """Continue a suspended, interrupted or failed run. One that is `at_rest` waits for the end of its process.

        Raises:
            SpecError: it is in the queue already, or was not started from this page.
        """
        if not self._file(name).is_file():
            raise SpecError(
                f"run {name} was not started from this page; its own command goes on with it: atoll run -f …"
            )
        with self._changed:
            self._enqueue(name, at_rest=at_rest)

    def suspend(self, name: str) -> None:
        """Take a run out of the queue, or stop its stage, which saves a checkpoint.

        Raises:
            SpecError: the run is neither in the queue nor running.
        """
        with self._changed:
            if name in self._waiting:
                self._waiting.remove(name)
            elif self._running is not None and self._running.name == name:
                self._running.interrupt()
            else:
                raise SpecError(f"run {name} is not at work here")

    def forget(self, name: str) -> None:
        """Forget why the process of a run failed."""
        with self._changed:
            self._problems.pop(name, None)

    def close(self) -> str | None:
        """Suspend the running training; return its name."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            running = self._running
            if running is not None:
                running.interrupt()
            self._changed.notify_all()
        self._thread.join(END_SECONDS)
        return running.name if running else None

    def _enqueue(self, name: str, *, at_rest: bool = False) -> None:
        running = self._running
        works = running is not None and running.name == name and not (at_rest or running.interrupted)
        if works or name in self._waiting:
            raise SpecError(f"run {name} is in the queue already")
        self._waiting.append(name)
        self._changed.notify_all()

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.yaml"

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                name = self._waiting.popleft()
                self._problems.pop(name, None)
                if len(self._problems) > MAX_PROBLEMS:
                    self._problems.clear()
                try:
                    self._running = running = _RunningProcess(name, self._start(name))
                except OSError as error:
                    self._problems[name] = f"atoll run could not be started: {error}"
                    continue
            code = running.process.wait()
            with self._changed:
                self._running = None
                if code and (last := _last_line(self._folder / f"{name}.log")).startswith("error: "):
                    self._problems[name] = last.removeprefix("error: ")

    def _start(self, name: str) -> "subprocess.Popen[bytes]":
        with (self._folder / f"{name}.json").open("wb") as out, (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                list(self._command(self._file(name), self._store)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                # Ctrl-C in the terminal reaches this program alone, which passes it on once.
                start_new_session=True,
            )


def _last_line(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 4096))
        lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
