"""What the exit code of `atoll` says of a run."""

from atoll_contract.reasons import ExitCode, Reason, exit_code
from atoll_operator.status import Phase, RunStatus

FAILED = 1
CANCELLED = 3
# As timeout(1) has it.
TIMED_OUT = 124
INTERRUPTED = 130

EXIT_CODES = """
Exit codes: 0 done; 1 failed for a reason without a code of its own; 2 wrong usage; 3 the run was cancelled;
10-19 the data; 20-29 settings, permissions or the machine; 30-39 trouble that may pass; 40-49 the model or its
compilation; 50-59 integrity and publishing (docs/cli.md lists them); 124 not
ended in the time given; 130 suspended by Ctrl-C.
"""


def exit_status(status: RunStatus) -> int:
    """The exit code for a run that has this status."""
    if status.phase is Phase.SUCCEEDED:
        return 0
    if status.phase is Phase.CANCELLED:
        return CANCELLED
    if status.phase is not Phase.FAILED:
        return INTERRUPTED
    return reason_status(status.reason)


def reason_status(reason: Reason) -> int:
    """The exit code for a failure with `reason`."""
    code = exit_code(reason)
    # `exit_code` answers InternalError for all that it does not know.
    return int(code) if code is not ExitCode.INTERNAL_ERROR or reason is Reason.INTERNAL_ERROR else FAILED
