"""What the stages of one pod leave for those that follow them: their results, in a folder that only they write to."""

import errno
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from atoll_contract.document import DecodeError, replace
from atoll_contract.errors import AtollError, ExitCode, IntegrityError, Reason, exit_code
from atoll_contract.keys import run_prefix
from atoll_contract.stage import ENV_HANDOVER_DIR, Stage, StageInput
from atoll_contract.stage_result import Artifact, parse_result, refused_output

logger = logging.getLogger(__name__)

MAX_BYTES = 65536


def leave_result(stage: Stage, message: bytes, environ: Mapping[str, str]) -> None:
    """Writes the result of a stage that succeeded where the next stage of the pod reads it, if there is one."""
    folder = environ.get(ENV_HANDOVER_DIR)
    if not folder:
        return
    try:
        _file(folder, stage).write_bytes(message)
    except OSError as error:
        if error.errno == errno.EROFS:
            # The last stage of a pod may only read what the others left.
            return
        # The next stage says that it lacks the result, and is tried again by itself.
        logger.error("cannot leave the result in %s: %s", folder, error)


def with_handed_over(given: StageInput, environ: Mapping[str, str]) -> StageInput:
    """Returns the input with the outputs of the earlier stages of this pod among its `upstream`.

    Raises:
        AtollError: ResultMissing, an earlier stage left no result that can be read.
        IntegrityError: a result names files that its stage may not have written.
    """
    for stage in given.handed_over or ():
        outputs = _outputs(given, stage, environ.get(ENV_HANDOVER_DIR, ""))
        given = replace(given, upstream={**given.upstream, str(stage): outputs})
    return given


def _outputs(given: StageInput, stage: Stage, folder: str) -> tuple[Artifact, ...]:
    path = _file(folder, stage)
    try:
        result = parse_result(_read(path), unknown_reason=Reason.COMPLETED)
    except (OSError, DecodeError) as error:
        text = f"stage {stage} left no result in {path} of this pod ({error}); the next attempt is given it"
        raise AtollError(Reason.RESULT_MISSING, text) from None
    if result.stage != stage or exit_code(result.reason) is not ExitCode.OK:
        text = f"{path} has the result of stage {result.stage}, {result.reason}; one of {stage} was expected"
        raise AtollError(Reason.RESULT_MISSING, text)
    handed_on = {item for outputs in given.upstream.values() for item in outputs}
    if refused := refused_output(result, prefixes=(run_prefix(given.run),), handed_on=handed_on):
        raise IntegrityError(refused)
    return result.outputs


def _read(path: Path) -> bytes:
    """Reads a file of another container, which may be anything: no link into this one, no pipe, and bounded."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise OSError(f"it is no file of at most {MAX_BYTES} bytes")
        return stream.read(MAX_BYTES)


def _file(folder: str, stage: Stage) -> Path:
    return Path(folder) / f"{stage}.json"
