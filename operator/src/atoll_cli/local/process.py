"""The process of a stage: it can be recorded before it begins its work, recognised later, and ended with its children.

A process is identified by its id and its start time, because the kernel reuses ids.
"""

import logging
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from atoll_contract.stage import ENV_ENGINE_FD, ENV_POD_UID

logger = logging.getLogger(__name__)

# More than the stage's own grace period, in which it saves its checkpoint and the end of its log.
END_SECONDS = 60.0
_KILL_SECONDS = 10.0
_POLL_SECONDS = 0.02
_LINUX = platform.system() == "Linux"
# The shell waits for one line before it becomes the stage. If the engine dies before it has recorded the process, the
# pipe ends and the stage does not start.
_WAIT_AND_EXEC = 'read -r go && exec "$@" </dev/null'


class StageProcess:
    """A process that begins its work with `release`. It holds a pipe whose end tells it that the engine is gone."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], *, folder: Path) -> None:
        start_read, self._start = os.pipe()
        engine_read, self._engine = os.pipe()
        try:
            self.popen = subprocess.Popen(
                ["/bin/sh", "-c", _WAIT_AND_EXEC, "atoll", *command],
                stdin=start_read,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**environ, ENV_ENGINE_FD: str(engine_read)},
                cwd=folder,
                pass_fds=(engine_read,),
                # Ctrl-C in the terminal reaches only the engine, which decides what to do.
                start_new_session=True,
            )
        except BaseException:
            self.close()
            os.close(self._start)
            raise
        finally:
            os.close(start_read)
            os.close(engine_read)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def release(self) -> None:
        """Let the process begin its work."""
        with suppress(BrokenPipeError):
            os.write(self._start, b"go\n")
        os.close(self._start)

    def close(self) -> None:
        """Close the pipe of a process that has ended."""
        os.close(self._engine)


def read_message(path: Path) -> str:
    """The termination message in a file; empty where the process has left none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def start_time(pid: int) -> str:
    """The start time of a process in the system's own format; empty if no such process lives."""
    if _LINUX:
        fields = _stat(pid)
        return fields[19] if _lives(fields) else ""
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    ).stdout.strip()
    return "" if not shown or shown.startswith("Z") else shown.split(maxsplit=1)[1]


def is_alive(pid: int, started: str) -> bool:
    return bool(started) and start_time(pid) == started


def end_process(pid: int, started: str, *, pod_uid: str) -> None:
    """Terminate a process and wait until it and all that it started have ended; kill what is left after a minute.
    Do nothing if there is no such process."""
    if is_alive(pid, started):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    if not _wait_for_end(pid, started, pod_uid, END_SECONDS):
        logger.warning("process %d did not end within %.0f s; killing it", pid, END_SECONDS)
        kill_process(pid, started, pod_uid=pod_uid)


def kill_process(pid: int, started: str, *, pod_uid: str) -> None:
    """Kill a process and all that it started."""
    alive = [pid] if is_alive(pid, started) else []
    for member in (*alive, *_session_members(pid, pod_uid)):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(member, signal.SIGKILL)
    _wait_for_end(pid, started, pod_uid, _KILL_SECONDS)


def _wait_for_end(pid: int, started: str, pod_uid: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid, started) or any(_session_members(pid, pod_uid)):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _session_members(session: int, pod_uid: str) -> Iterator[int]:
    """Living processes of the stage's session, without its leader. None are found on other systems than Linux: there
    each process of a stage has to notice by itself that its parent is gone."""
    if not _LINUX:
        return
    mark = f"{ENV_POD_UID}={pod_uid}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == session:
            continue
        pid = int(entry.name)
        fields = _stat(pid)
        if _lives(fields) and fields[3] == str(session) and mark in _environ(pid):
            yield pid


def _lives(fields: Sequence[str]) -> bool:
    return bool(fields) and fields[0] not in ("Z", "X")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on: state, parent, group, session, …; empty if there are none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The name of the program is in parentheses and may itself contain parentheses.
    return text.rpartition(")")[2].split()


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
