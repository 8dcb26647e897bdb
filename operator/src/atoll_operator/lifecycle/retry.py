"""The one way out of Failed: a new value of the annotation atoll.dev/retry. Pure."""

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase, ReleaseStatus, RunStatus, StagePhase, StageStatus
from atoll_operator.lifecycle.model import RunView
from atoll_operator.lifecycle.step import current_stage

MAX_VALUE = 256


def retried(run: RunView, status: RunStatus) -> RunStatus:
    """`status` with the annotation acted on, if it is new.

    The value is `<anything>` or `<anything>:<stage>`; with a stage the run goes back to it, else to the failed one.
    On a run that is active it is only noted, so that it does not bite later; succeeded and cancelled runs ignore it.
    """
    if not run.retry or run.retry[:MAX_VALUE] == status.last_handled_retry:
        return status
    if status.phase in (Phase.SUCCEEDED, Phase.CANCELLED):
        return status
    noted = replace(status, last_handled_retry=run.retry[:MAX_VALUE])
    if status.phase is not Phase.FAILED:
        return noted
    return _reopened(noted, _asked_stage(run.retry))


def _asked_stage(value: str) -> Stage | None:
    suffix = value.rsplit(":", 1)[-1]
    return Stage(suffix) if suffix in tuple(Stage) else None


def _reopened(status: RunStatus, asked: Stage | None) -> RunStatus:
    order = list(Stage)
    failed = current_stage(status)
    first = failed.name if failed else Stage.PUBLISH
    if asked is not None and order.index(asked) < order.index(first):
        first = asked
    stages = tuple(_again(item) if order.index(item.name) >= order.index(first) else item for item in status.stages)
    return replace(
        status,
        phase=Phase.PENDING,
        reason=Reason.PENDING,
        message="the run goes on after a retry was asked for",
        completion_time=None,
        # The deadline's clock starts anew: it may be the very thing that ended the run.
        active_seconds=0,
        active_since=None,
        usage=None,
        resolved=None,
        stages=stages,
        release=_kept_version(status.release),
    )


def _again(stage: StageStatus) -> StageStatus:
    """`stage` as not done, its attempt numbers going on."""
    return replace(
        stage,
        phase=StagePhase.PENDING,
        reason=Reason.PENDING,
        message="",
        failures=0,
        completion_time=None,
        next_retry_time=None,
        pending_since=None,
        storage_failing_since=None,
        outputs=(),
    )


def _kept_version(release: ReleaseStatus | None) -> ReleaseStatus | None:
    """A failed publish keeps its number, and its retry uses it."""
    return replace(release, manifest=None) if release else None
