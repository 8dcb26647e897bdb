"""The child process of a stage: does the work, writes the result to the parent, and ends when the parent dies."""

import errno
import faulthandler
import hashlib
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from atoll_contract.document import DecodeError, replace, to_json
from atoll_contract.errors import AtollError, ExitCode, IntegrityError, Reason, SpecError, bounded, exit_code
from atoll_contract.keys import stage_prefix
from atoll_contract.stage import ENV_POD_UID, Stage, StageInput
from atoll_contract.stage_result import (
    CHECKPOINT_STEP,
    RESULT_NAME,
    UNLOADED_SECONDS,
    Artifact,
    StageResult,
    parse_result,
)
from atoll_contract.store import open_store
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_stages.runtime.context import ProgressLines, StageContext, StageOutcome
from atoll_stages.runtime.handover import with_handed_over
from atoll_stages.runtime.process_time import undisturbed_seconds
from atoll_stages.runtime.supervision import READ_BYTES, ChildArguments, kill_after

logger = logging.getLogger(__name__)

Work = Callable[[StageContext], StageOutcome]

_RESULT_OF_ATTEMPT = re.compile(r"a(\d+)-[^/]+/" + re.escape(RESULT_NAME))


def run_child(stage: Stage, work: Work, arguments: ChildArguments) -> NoReturn:
    """Does the work, writes the result to the parent and ends the process.

    It ends by `os._exit`, because threads that a library left running must not keep a finished stage alive.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    faulthandler.enable()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    parent = ParentWatch(arguments, stop)
    parent.start()
    result = _run_work(stage, work, stop=stop, scratch=arguments.scratch)
    _write_all(arguments.result, result.termination_message())
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if parent.died.is_set():
        kill_own_group()
    os._exit(exit_code(result.reason))


class ParentWatch:
    """Sets `died` and `stop` when the parent ends, and kills the process group when the grace period is over.

    The parent holds the other end of the pipe `alive` and never writes to it, so the pipe ends with the parent. The
    child also holds the reading end of its own standard output, so that printing does not fail while the stage saves.
    """

    def __init__(self, arguments: ChildArguments, stop: threading.Event) -> None:
        self._alive = arguments.alive
        self._output = arguments.output
        self._stop = stop
        self.died = threading.Event()

    def start(self) -> None:
        for descriptor in (self._alive, self._output):
            os.set_inheritable(descriptor, False)
        threading.Thread(target=self._watch, name="parent-watch", daemon=True).start()

    def _watch(self) -> None:
        os.read(self._alive, 1)
        self.died.set()
        self._stop.set()
        threading.Thread(target=self._discard_output, name="output", daemon=True).start()
        time.sleep(kill_after(os.environ))
        kill_own_group()

    def _discard_output(self) -> None:
        while os.read(self._output, READ_BYTES):
            pass


def kill_own_group() -> None:
    """Kills this process and all that it started."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _write_all(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError:
        logger.warning("nobody reads the result any more")


def _run_work(stage: Stage, work: Work, *, stop: threading.Event, scratch: Path) -> StageResult:
    """Returns the stage's result; every error becomes a result with its reason."""
    attempt, progress = 0, ProgressLines()

    def failed(reason: Reason, message: str) -> StageResult:
        saved = progress.last.checkpoint_step
        summary = {} if saved is None else {CHECKPOINT_STEP: saved}
        return StageResult(stage, attempt, reason, message, summary=summary)

    try:
        given = StageInput.from_env()
        attempt = given.attempt
        if given.stage is not stage:
            raise SpecError(f"this program is stage {stage}; its input is for stage {given.stage}")
        given = with_handed_over(given, os.environ)
        return _resume_or_work(given, work, stop=stop, scratch=scratch, progress=progress)
    except AtollError as error:
        logger.error("%s: %s", error.reason, error.message)
        return failed(error.reason, error.message)
    except MemoryError:
        logger.exception("out of memory")
        return failed(Reason.OUT_OF_MEMORY, "the stage ran out of memory; give it more")
    except Exception as error:
        logger.exception("the stage failed")
        if _disk_is_full(error):
            text = f"no space is left in the stage's scratch folder ({error}); give the profile's scratch more"
            return failed(Reason.EPHEMERAL_STORAGE_EXCEEDED, bounded(text))
        text = f"the stage failed unexpectedly: {type(error).__name__}: {error}; its log has the traceback"
        return failed(Reason.INTERNAL_ERROR, bounded(text))


def _resume_or_work(
    given: StageInput, work: Work, *, stop: threading.Event, scratch: Path, progress: ProgressLines
) -> StageResult:
    store = open_store(given.store, progress.wait_for)
    completed = resume_completed(given, store, scratch)
    if completed is not None:
        logger.info("%s", completed.message)
        return completed
    context = StageContext(given, store, scratch, os.environ[ENV_POD_UID], stop, progress, given.worker())
    outcome = work(context)
    summary = {UNLOADED_SECONDS: undisturbed_seconds(), **outcome.summary}
    result = StageResult(given.stage, given.attempt, outcome.reason, bounded(outcome.message), outcome.outputs, summary)
    if context.worker:
        logger.info("%s", result.message)
        return result
    data = to_json(result)
    key = context.prefix + RESULT_NAME
    store.put(key, data)
    logger.info("%s: %s", result.reason, result.message)
    return replace(result, result=Artifact(RESULT_NAME, key, hashlib.sha256(data).hexdigest(), len(data)))


def resume_completed(given: StageInput, store: Store, scratch: Path) -> StageResult | None:
    """Returns the newest complete result of an earlier attempt as this attempt's own; None where there is none, or none
    that may be taken over (`StageInput.adopt_from`).

    A result is complete where the stage succeeded and all of its outputs are in the store with the right digests.
    """
    prefix = stage_prefix(given.run, given.folder)
    found = []
    for info in store.list(prefix):
        match = _RESULT_OF_ATTEMPT.fullmatch(info.key, len(prefix))
        if match and int(match[1]) >= (given.adopt_from or 0):
            found.append((int(match[1]), info.key))
    for _, key in sorted(found, reverse=True):
        result = _adopt(key, given=given, store=store, scratch=scratch)
        if result is not None:
            return result
    return None


def _adopt(key: str, *, given: StageInput, store: Store, scratch: Path) -> StageResult | None:
    """Returns the result at `key` as this attempt's own; None where it is not complete."""
    try:
        data = store.get(key)
        result = parse_result(data)
        if result.stage != given.stage or exit_code(result.reason) is not ExitCode.OK:
            return None
        for output in result.outputs:
            store.download(output.key, scratch / "adopted", sha256=output.sha256)
    except (DecodeError, IntegrityError, ObjectNotFound) as error:
        logger.warning("the result at %s is not adopted: %s", key, error)
        return None
    finally:
        (scratch / "adopted").unlink(missing_ok=True)
    return replace(
        result,
        attempt=given.attempt,
        reason=Reason.ADOPTED,
        message=bounded(f"finished by attempt {result.attempt}: {result.message}"),
        result=Artifact(RESULT_NAME, key, hashlib.sha256(data).hexdigest(), len(data)),
    )


def _disk_is_full(error: BaseException | None) -> bool:
    """Returns whether the error, or one that caused it, says that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
