"""The process that a container or the engine starts (PID 1 in a pod): it runs the work as a child and outlives it.

It passes the child's output on and stores it as the log, forwards SIGTERM, ends the child where its engine is gone,
turns signals into exit codes and writes the termination message. It holds nothing else, so that the kernel picks the
child where memory runs out.
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

from atoll_contract.errors import Reason, SpecError, bounded, exit_code
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
from atoll_stages.runtime.exit_result import Conclusion, conclude
from atoll_stages.runtime.logs import LogChunks
from atoll_stages.runtime.supervision import Supervision, log_deadline

logger = logging.getLogger(__name__)

LOG_GIVE_UP_SECONDS = 20.0


def supervise(stage: Stage, environ: Mapping[str, str] = os.environ) -> int:
    """Run this process's command again as the child that does the work; the exit code for both."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    given = _input(environ)
    pod_uid = environ.get(ENV_POD_UID) or f"by-hand-{uuid.uuid4().hex[:12]}"
    folder = _work_dir(environ)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{stage}-", dir=folder))
    except OSError as error:
        text = f"cannot make a scratch folder in {folder}: {error.strerror}; free some space or set {ENV_WORK_DIR}"
        result = StageResult(stage, given.attempt if given else 0, Reason.EPHEMERAL_STORAGE_EXCEEDED, bounded(text))
        return _end(Conclusion(result.termination_message(), exit_code(result.reason)), environ)
    try:
        return _run(stage, given, pod_uid=pod_uid, scratch=scratch, environ=environ)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(stage: Stage, given: StageInput | None, *, pod_uid: str, scratch: Path, environ: Mapping[str, str]) -> int:
    chunks = _log_chunks(given, pod_uid)
    supervision = Supervision(scratch, {**environ, ENV_POD_UID: pod_uid}, engine=_engine_fd(environ))
    if chunks is not None:
        chunks.start()
        supervision.output_to(chunks.feed)
    ended = supervision.run()
    code = _end(conclude(stage, given.attempt if given else 0, ended), environ)
    if chunks is not None:
        timeout = LOG_GIVE_UP_SECONDS
        if ended.interrupted_at is not None:
            timeout = min(timeout, log_deadline(environ, ended.interrupted_at) - time.monotonic())
        if not chunks.close(timeout=timeout):
            logger.warning("gave up storing the end of the log")
    return code


def _end(conclusion: Conclusion, environ: Mapping[str, str]) -> int:
    """Write the termination message; by hand, where nobody asked for a file, it is the last line of the output."""
    path = Path(environ.get(ENV_TERMINATION_LOG) or DEFAULT_TERMINATION_LOG)
    if not environ.get(ENV_TERMINATION_LOG) and not path.exists():
        sys.stdout.write(conclusion.message.decode() + "\n")
        sys.stdout.flush()
        return conclusion.code
    try:
        write_message(path, conclusion.message)
    except OSError as error:
        logger.error("cannot write the termination message to %s: %s", path, error)
    return conclusion.code


def write_message(path: Path, message: bytes) -> None:
    """Put the termination message into its file, whole."""
    try:
        with written_whole(path) as stream:
            stream.write(message)
    except OSError:
        # In a pod it is a mount of its own, which no rename replaces; one write of so few bytes is whole there too.
        path.write_bytes(message)


def _input(environ: Mapping[str, str]) -> StageInput | None:
    try:
        return StageInput.from_env(environ)
    except SpecError:
        return None  # the child finds the same and says so


def _work_dir(environ: Mapping[str, str]) -> Path:
    return Path(environ.get(ENV_WORK_DIR) or tempfile.gettempdir())


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
    # Opened with the first chunk: only then does the parent hold more than the standard library.
    opened = cache(open_store)

    def put(number: int, chunk: bytes) -> None:
        key = log_chunk(given.run, given.stage, attempt=given.attempt, pod_uid=pod_uid, number=number)
        opened(given.store).put(key, chunk)

    return LogChunks(put)
