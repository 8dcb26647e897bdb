"""How long a stage that is asked to end may take."""

import logging
from collections.abc import Mapping

from atoll_contract.stage import DEFAULT_GRACE_SECONDS, ENV_GRACE

logger = logging.getLogger(__name__)

# Left of the grace for the parent's own last words, once the child is killed; the log may take all but the last two.
RESERVE_SECONDS = 5.0
LOG_RESERVE_SECONDS = 2.0


def grace(environ: Mapping[str, str]) -> float:
    """Seconds from the request to end until everything must have ended."""
    try:
        return max(float(environ.get(ENV_GRACE) or DEFAULT_GRACE_SECONDS), 0.0)
    except ValueError:
        logger.warning("%s=%r is no number of seconds", ENV_GRACE, environ[ENV_GRACE])
        return DEFAULT_GRACE_SECONDS


def kill_after(environ: Mapping[str, str]) -> float:
    """Seconds from the request to end until the child is killed."""
    return max(grace(environ) - RESERVE_SECONDS, 0.1)


def log_deadline(environ: Mapping[str, str], interrupted_at: float) -> float:
    """When the upload of the log is given up, on the clock of `interrupted_at`."""
    return interrupted_at + max(grace(environ) - LOG_RESERVE_SECONDS, 0.0)
