"""A stage as a process: on record before it works, recognised again later, and ended with all that it started.

A process is named by its id and its start time, as ids are used again.
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

# More than the stage's own grace: it saves its checkpoint and the end of its log first.
END_SECONDS = 60.0
_POLL_SECONDS = 0.02
_LINUX = platform.system() == "Linux"
# The shell waits for one line before it becomes the stage; where the engine dies before the process is on record,
# the pipe ends and nothing starts.
_GATE = 'read -r go && exec "$@" </dev/null'


class StageProcess:
    """A process at the gate: `release` lets it work. It watches a pipe whose end tells it that the engine is gone."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], *, folder: Path) -> None:
        gate_read, self._gate = os.pipe()
        engine_read, self._engine = os.pipe()
        try:
            self.popen = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "atoll", *command],
                stdin=gate_read,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**environ, ENV_ENGINE_FD: str(engine_read)},
                cwd=folder,
                pass_fds=(engine_read,),
                # Ctrl-C in the terminal is the engine's to answer.
                start_new_session=True,
            )
        except BaseException:
            self.close()
            os.close(self._gate)
            raise
        finally:
            os.close(gate_read)
            os.close(engine_read)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def release(self) -> None:
        with suppress(BrokenPipeError):
            os.write(self._gate, b"go\n")
        os.close(self._gate)

    def close(self) -> None:
        """After its end."""
        os.close(self._engine)


def start_time(pid: int) -> str:
    """When the process began, as the system writes it; empty where there is none (or only its exit code)."""
    if _LINUX:
        fields = _stat(pid)
        return fields[19] if fields and fields[0] not in ("Z", "X") else ""
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    ).stdout.strip()
    return "" if not shown or shown.startswith("Z") else shown.split(maxsplit=1)[1]


def is_alive(pid: int, started: str) -> bool:
    return bool(started) and start_time(pid) == started


def end_process(pid: int, started: str, *, pod_uid: str, seconds: float = END_SECONDS) -> None:
    """Ask the process to end; wait until it and all that it started have; kill what is left. None there is fine."""
    if is_alive(pid, started):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while is_alive(pid, started) or any(_relatives(pid, pod_uid)):
        if time.monotonic() > deadline:
            logger.warning("process %d did not end within %.0f s; killing it", pid, seconds)
            kill_process(pid, started, pod_uid=pod_uid)
            return
        time.sleep(_POLL_SECONDS)


def kill_process(pid: int, started: str, *, pod_uid: str) -> None:
    """Kill the process and what it started."""
    doomed = list(_relatives(pid, pod_uid))
    if is_alive(pid, started):
        doomed.insert(0, pid)
    for one in doomed:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (is_alive(pid, started) or any(_relatives(pid, pod_uid))) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _relatives(session: int, pod_uid: str) -> Iterator[int]:
    """Living processes of the stage's session, beside its leader. Elsewhere than on Linux none are found: there the
    stage's own watch on its parent has to do."""
    if not _LINUX:
        return
    mark = f"{ENV_POD_UID}={pod_uid}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == session:
            continue
        pid = int(entry.name)
        fields = _stat(pid)
        if fields and fields[0] not in ("Z", "X") and fields[3] == str(session) and mark in _environ(pid):
            yield pid


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on (state, parent, group, session, …)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The program's name, in parentheses, may hold anything.
    return text.rpartition(")")[2].split()


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
