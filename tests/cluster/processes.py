"""Child processes of the test bench: started with a log file, written down, stopped by the ids written down.

Every owner (one Python process) has a folder of its own under the cache. The folder lists the owner and each child
with its start time; `remove_leftovers` ends what a crashed owner left running and deletes its folder.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.binaries import cache_folder

logger = logging.getLogger(__name__)

LEDGER = "processes.jsonl"
STOP_GRACE_SECONDS = 10.0


class ProcessError(RuntimeError):
    """A child ended too early or did not get ready; the message ends with the tail of its log."""


@dataclass(frozen=True)
class ProcessRecord:
    """A process as it can be found again: its id alone may be another process by then."""

    name: str
    pid: int
    started: str

    @property
    def alive(self) -> bool:
        return self.started != "" and start_time(self.pid) == self.started


def start_time(pid: int) -> str:
    """When the process started, in the system's own words; empty if there is no such process (or a zombie)."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The command in parentheses may hold spaces; the fields after it are state, ppid, … and starttime (22nd).
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    done = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=10
    )
    return done.stdout.strip()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ProcessGroup:
    """The children of one owner. Stop it in a `finally`; what a crash leaves is the next owner's to remove."""

    def __init__(self, label: str) -> None:
        remove_leftovers()
        runs_folder().mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{label}-", dir=runs_folder()))
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._write(ProcessRecord("owner", os.getpid(), start_time(os.getpid())))

    def start(self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Starts the command with its output in `<name>.log`; a name that ran before may be started again."""
        with self.log_path(name).open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C in the terminal is the owner's to handle
            )
        self._children[name] = child
        self._write(ProcessRecord(name, child.pid, start_time(child.pid)))

    def check(self, name: str) -> None:
        """Raises ProcessError if the child has ended."""
        code = self._children[name].poll()
        if code is not None:
            raise ProcessError(f"{name} ended with exit code {code}; its log ends with:\n{self.log_tail(name)}")

    def started(self, name: str) -> bool:
        """Whether the child was started and not stopped since."""
        return name in self._children

    def pid(self, name: str) -> int:
        return self._children[name].pid

    def stop(self, name: str, *, kill: bool = False) -> None:
        """Ends one child: SIGTERM, then SIGKILL after the grace; `kill` goes straight to SIGKILL."""
        child = self._children.pop(name)
        if child.poll() is None:
            child.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                child.wait(STOP_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                logger.warning("%s does not end on SIGTERM; killing it", name)
                child.kill()
                child.wait(STOP_GRACE_SECONDS)

    def close(self, *, kill: bool = False) -> None:
        """Ends all children, the last started first, and removes the folder."""
        for name in reversed(list(self._children)):
            self.stop(name, kill=kill)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log_tail(self, name: str) -> str:
        return self.log_path(name).read_text(encoding="utf-8", errors="replace")[-3000:]

    def _write(self, record: ProcessRecord) -> None:
        with (self.folder / LEDGER).open("a", encoding="utf-8") as ledger:
            ledger.write(json.dumps(asdict(record)) + "\n")


def runs_folder() -> Path:
    return cache_folder() / "runs"


def remove_leftovers() -> None:
    """Ends the children of owners that are gone, by the recorded ids and start times, and removes their folders."""
    for ledger in runs_folder().glob(f"*/{LEDGER}"):
        records = read_ledger(ledger)
        if not records or records[0].alive:
            continue
        owner, *children = records
        for child in reversed(children):
            _end(child)
        shutil.rmtree(ledger.parent, ignore_errors=True)
        logger.info("removed %s, left behind by process %d", ledger.parent, owner.pid)


def read_ledger(path: Path) -> list[ProcessRecord]:
    """The records of a ledger; a last line that a crash cut short is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # its owner, or another cleaner, was faster
        return []
    records = []
    for line in lines:
        try:
            records.append(ProcessRecord(**json.loads(line)))
        except ValueError:
            logger.warning("%s: passed over an unfinished line", path)
    return records


def _end(record: ProcessRecord) -> None:
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if not record.alive:
            return
        logger.info("ending %s (process %d) of a crashed run", record.name, record.pid)
        os.kill(record.pid, signal_number)
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        while record.alive and time.monotonic() < deadline:
            time.sleep(0.05)
