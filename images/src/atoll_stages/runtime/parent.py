"""The process that a container or the engine starts (PID 1 in a pod): it runs the work as a child and outlives it.

It passes the child's output on and stores it as the log, forwards SIGTERM, ends the child when the engine is gone,
turns signals into exit codes and writes the termination message. It imports little, so that the kernel kills the child
and not the parent when memory runs out.
"""

import logging
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from atoll_contract.errors import ExitCode, Reason, SpecError, bounded, exit_code
from atoll_contract.files import written_whole
from atoll_contract.keys import log_chunk
from atoll_contract.stage import (
    DEFAULT_TERMINATION_LOG,
    ENV_ENGINE_FD,
    ENV_POD_UID,
    ENV_TERMINATION_LOG,
    ENV_WORK_DIR,
    Stage,
    StageInput,
)
from atoll_contract.stage_result import StageResult
from atoll_contract.store import open_store
from atoll_stages.runtime.allocator import with_allocator
from atoll_stages.runtime.exit_result import ExitResult, exit_result
from atoll_stages.runtime.handover import leave_result
from atoll_stages.runtime.logs import LogChunks
from atoll_stages.runtime.supervision import Supervision, log_deadline

logger = logging.getLogger(__name__)

LOG_GIVE_UP_SECONDS = 20.0


def supervise(stage: Stage, environ: Mapping[str, str] = os.environ) -> int:
    """Runs this process's command again as the child that does the work, and returns the stage's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    given = _input(environ)
    pod_uid = environ.get(ENV_POD_UID) or f"by-hand-{uuid.uuid4().hex[:12]}"
    folder = Path(environ.get(ENV_WORK_DIR) or tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{stage}-", dir=folder))
    except OSError as error:
        text = f"cannot make a scratch folder in {folder}: {error.strerror}; free some space or set {ENV_WORK_DIR}"
        result = StageResult(stage, given.attempt if given else 0, Reason.EPHEMERAL_STORAGE_EXCEEDED, bounded(text))
        return _write_exit(ExitResult(result.termination_message(), exit_code(result.reason)), environ)
    try:
        return _run(stage, given, pod_uid=pod_uid, scratch=scratch, environ=environ)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(stage: Stage, given: StageInput | None, *, pod_uid: str, scratch: Path, environ: Mapping[str, str]) -> int:
    chunks = _log_chunks(given, pod_uid)
    child_environ = {**with_allocator(stage, environ), ENV_POD_UID: pod_uid}
    supervision = Supervision(scratch, child_environ, engine=_engine_fd(environ))
    if chunks is not None:
        chunks.start()
        supervision.output_to(chunks.feed)
    child = supervision.run()
    result = exit_result(stage, given.attempt if given else 0, child)
    if result.code == ExitCode.OK:
        leave_result(stage, result.message, environ)
    code = _write_exit(result, environ)
    if chunks is not None:
        timeout = LOG_GIVE_UP_SECONDS
        if child.interrupted_at is not None:
            timeout = min(timeout, log_deadline(environ, child.interrupted_at) - time.monotonic())
        if not chunks.close(timeout=timeout):
            logger.warning("gave up storing the end of the log")
    return code


def _write_exit(result: ExitResult, environ: Mapping[str, str]) -> int:
    """Writes the termination message and returns the exit code.

    Where a user started the stage without a file for the message, it is the last line of the output.
    """
    path = Path(environ.get(ENV_TERMINATION_LOG) or DEFAULT_TERMINATION_LOG)
    if not environ.get(ENV_TERMINATION_LOG) and not path.exists():
        sys.stdout.write(result.message.decode() + "\n")
        sys.stdout.flush()
        return result.code
    try:
        write_message(path, result.message)
    except OSError as error:
        logger.error("cannot write the termination message to %s: %s", path, error)
    return result.code


def write_message(path: Path, message: bytes) -> None:
    """Writes the termination message into its file, whole."""
    try:
        with written_whole(path) as stream:
            stream.write(message)
    except OSError:
        # In a pod the file is a mount, which cannot be renamed over; one write of so few bytes is whole there too.
        path.write_bytes(message)


def _input(environ: Mapping[str, str]) -> StageInput | None:
    try:
        return StageInput.from_env(environ)
    except SpecError:
        return None  # the child reports the same error as its result


def _engine_fd(environ: Mapping[str, str]) -> int | None:
    text = environ.get(ENV_ENGINE_FD, "")
    if not text:
        return None
    try:
        os.fstat(int(text))
    except (ValueError, OSError):
        logger.warning("%s=%r is no open file descriptor; the stage does not watch for its engine", ENV_ENGINE_FD, text)
        return None
    return int(text)


def _log_chunks(given: StageInput | None, pod_uid: str) -> LogChunks | None:
    if given is None:
        return None
    # The store is opened with the first chunk, because its libraries take time and memory.
    opened = cache(open_store)

    def put(number: int, chunk: bytes) -> None:
        key = log_chunk(given.run, given.folder, attempt=given.attempt, pod_uid=pod_uid, number=number)
        opened(given.store).put(key, chunk)

    return LogChunks(put)
