"""Finding the finished work of an earlier attempt: a pod that vanished after its work never costs it twice."""

import hashlib
import logging
import re
from dataclasses import replace
from pathlib import Path

from atoll_contract.codec import DecodeError
from atoll_contract.errors import IntegrityError, bounded
from atoll_contract.keys import stage_prefix
from atoll_contract.reasons import ExitCode, Reason, exit_code
from atoll_contract.result import RESULT_NAME, Artifact, StageResult, parse_result
from atoll_contract.stage import StageInput
from atoll_contract.store import ObjectNotFound, Store

logger = logging.getLogger(__name__)

_ATTEMPT = re.compile(r"a(\d+)-[^/]+/" + re.escape(RESULT_NAME))


def earlier_result(given: StageInput, store: Store, scratch: Path) -> StageResult | None:
    """The newest complete result under the stage's prefix whose outputs all stand in the store, byte for byte, as
    this attempt's own; None where there is none."""
    prefix = stage_prefix(given.run, given.stage)
    found = []
    for info in store.list(prefix):
        match = _ATTEMPT.fullmatch(info.key, len(prefix))
        if match:
            found.append((int(match[1]), info.key))
    for _, key in sorted(found, reverse=True):
        result = _complete(key, given=given, store=store, scratch=scratch)
        if result is not None:
            return result
    return None


def _complete(key: str, *, given: StageInput, store: Store, scratch: Path) -> StageResult | None:
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
