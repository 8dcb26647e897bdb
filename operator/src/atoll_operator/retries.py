"""Which failure is worth another attempt, and how long to wait before it. Pure."""

from atoll_contract.reasons import ExitCode, Reason, is_transient

FIRST_DELAY_SECONDS = 5
LONGEST_DELAY_SECONDS = 300
# A store that does not answer is waited for by the clock, not by attempts, where a run allows any retry at all.
STORAGE_WINDOW_SECONDS = 6 * 3600
STORAGE = frozenset({Reason.STORAGE_UNAVAILABLE, Reason.STORAGE_THROTTLED})
# Ends of an attempt that cost no try (a result that got lost, a version that was taken) are bounded all the same.
MAX_ATTEMPTS = 100

# Failures that no exit code tells: what the cluster did to the pod. The stage's work may well succeed next time.
_WORTH_ANOTHER = frozenset({Reason.EVICTED, Reason.NODE_LOST, Reason.JOB_DELETED_EXTERNALLY, Reason.RESULT_MISSING})


def worth_another(reason: Reason, code: int | None) -> bool:
    """Whether a failed attempt may be followed by another. `code` is the container's, None where none is known."""
    if reason in _WORTH_ANOTHER:
        return True
    if reason is Reason.OUT_OF_MEMORY:
        # The same work needs the same memory.
        return False
    known = code or ExitCode.__members__.get(reason.name)
    return known is not None and is_transient(known)


def delay_seconds(failures: int) -> int:
    """The wait after the `failures`-th failure: 5 s, 10 s, 20 s … at most 5 min; none without a failure."""
    if failures <= 0:
        return 0
    doubled = FIRST_DELAY_SECONDS << min(failures - 1, 10)
    return min(doubled, LONGEST_DELAY_SECONDS)
