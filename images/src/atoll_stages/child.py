"""The process that does a stage's work: input, store, adoption, the work itself, and every error to its reason."""

import errno
import faulthandler
import hashlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from atoll_contract.codec import to_json
from atoll_contract.errors import AtollError, SpecError, bounded
from atoll_contract.reasons import Reason, exit_code
from atoll_contract.result import RESULT_NAME, Artifact, StageResult
from atoll_contract.stage import ENV_POD_UID, Stage, StageInput
from atoll_contract.store import open_store
from atoll_stages.adoption import earlier_result
from atoll_stages.context import StageContext, StageOutcome
from atoll_stages.orphan import ParentWatch

logger = logging.getLogger(__name__)

Work = Callable[[StageContext], StageOutcome]


def run_child(stage: Stage, work: Work, handed: str) -> NoReturn:
    """Do the work, hand the result to the parent and end the process.

    It ends by `os._exit`: threads that a library left running must not keep a finished stage alive.
    """
    alive, output, answer, scratch = handed.split(":", 3)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    faulthandler.enable()
    stop = threading.Event()
    _stop_on_signals(stop)
    parent = ParentWatch(int(alive), int(output), stop)
    parent.start()
    result = _result(stage, work, stop=stop, scratch=Path(scratch))
    _write_all(int(answer), result.termination_message())
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if parent.gone.is_set():
        parent.end_group()
    os._exit(exit_code(result.reason))


def _result(stage: Stage, work: Work, *, stop: threading.Event, scratch: Path) -> StageResult:
    """The one place where an error of any kind ends: as a result with its reason."""
    attempt = 0
    try:
        given = StageInput.from_env()
        attempt = given.attempt
        if given.stage is not stage:
            raise SpecError(f"this program is stage {stage}; its input is for stage {given.stage}")
        return _perform(given, work, stop=stop, scratch=scratch)
    except AtollError as error:
        logger.error("%s: %s", error.reason, error.message)
        return StageResult(stage, attempt, error.reason, error.message)
    except MemoryError:
        logger.exception("out of memory")
        return StageResult(stage, attempt, Reason.OUT_OF_MEMORY, "the stage ran out of memory; give it more")
    except Exception as error:
        logger.exception("the stage failed")
        if _disk_is_full(error):
            text = f"no space is left in the stage's scratch folder ({error}); give the profile's scratch more"
            return StageResult(stage, attempt, Reason.EPHEMERAL_STORAGE_EXCEEDED, bounded(text))
        text = f"the stage failed unexpectedly: {type(error).__name__}: {error}; its log has the traceback"
        return StageResult(stage, attempt, Reason.INTERNAL_ERROR, bounded(text))


def _perform(given: StageInput, work: Work, *, stop: threading.Event, scratch: Path) -> StageResult:
    store = open_store(given.store)
    adopted = earlier_result(given, store, scratch)
    if adopted is not None:
        logger.info("%s", adopted.message)
        return adopted
    context = StageContext(given, store, scratch, os.environ[ENV_POD_UID], stop)
    outcome = work(context)
    result = StageResult(
        given.stage, given.attempt, outcome.reason, bounded(outcome.message), outcome.outputs, outcome.summary
    )
    data = to_json(result)
    key = context.prefix + RESULT_NAME
    store.put(key, data)
    logger.info("%s: %s", result.reason, result.message)
    return replace(result, result=Artifact(RESULT_NAME, key, hashlib.sha256(data).hexdigest(), len(data)))


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _stop_on_signals(stop: threading.Event) -> None:
    def handle(*_: object) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handle)


def _write_all(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError:
        logger.warning("nobody reads the result any more")
