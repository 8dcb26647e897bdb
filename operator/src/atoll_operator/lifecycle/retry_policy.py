"""Which failure is worth another attempt, and how long to wait before it. Pure."""

from dataclasses import dataclass

from atoll_contract.errors import ExitCode, Reason, is_transient

STORAGE = frozenset({Reason.STORAGE_UNAVAILABLE, Reason.STORAGE_THROTTLED})
# Ends of an attempt that cost no try (a result that got lost, a version that was taken) are bounded all the same.
MAX_ATTEMPTS = 100


@dataclass(frozen=True)
class RetryTiming:
    """Seconds: before the second attempt, that doubled up to the longest; and how long a store that does not answer is
    waited for, by the clock and not by attempts, where a run allows any retry at all."""

    first: float = 5.0
    longest: float = 300.0
    storage_window: float = 6 * 3600.0

    def delay(self, failures: int) -> float:
        """The wait after the `failures`-th failure: 5 s, 10 s, 20 s … at most 5 min; none without a failure."""
        return min(self.first * 2 ** min(failures - 1, 32), self.longest) if failures > 0 else 0.0


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
