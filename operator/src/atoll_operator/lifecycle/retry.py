"""The one way out of Failed: a new value of the annotation atoll.dev/retry. Pure."""

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase, RunStatus, StagePhase, StageStatus
from atoll_operator.lifecycle.model import RunView
from atoll_operator.lifecycle.transition import current_stage

MAX_VALUE = 256


def retried(run: RunView, status: RunStatus) -> RunStatus:
    """`status` with the annotation acted on, if its value is new.

    The value is `<anything>` or `<anything>:<stage>`; with a stage the run goes back to it, otherwise to the failed
    one. On an active run the value is only recorded, so that it has no effect later; succeeded and cancelled runs
    ignore it.
    """
    if not run.retry or run.retry[:MAX_VALUE] == status.last_handled_retry:
        return status
    if status.phase in (Phase.SUCCEEDED, Phase.CANCELLED):
        return status
    recorded = replace(status, last_handled_retry=run.retry[:MAX_VALUE])
    if status.phase is not Phase.FAILED:
        return recorded
    return _reopened(recorded, _requested_stage(run.retry))


def _requested_stage(value: str) -> Stage | None:
    suffix = value.rsplit(":", 1)[-1]
    return Stage(suffix) if suffix in tuple(Stage) else None


def _reopened(status: RunStatus, requested: Stage | None) -> RunStatus:
    order = list(Stage)
    failed = current_stage(status)
    first = order.index(failed.name if failed else Stage.PUBLISH)
    if requested is not None:
        first = min(first, order.index(requested))
    return replace(
        status,
        phase=Phase.PENDING,
        reason=Reason.PENDING,
        message="the run goes on after a retry was asked for",
        completion_time=None,
        # The time for the deadline starts anew: the deadline may be what ended the run.
        active_seconds=0,
        active_since=None,
        usage=None,
        resolved=None,
        stages=tuple(_reset(item) if order.index(item.name) >= first else item for item in status.stages),
        # A failed publish keeps its version, and its retry uses it.
        release=replace(status.release, manifest=None) if status.release else None,
    )


def _reset(stage: StageStatus) -> StageStatus:
    """`stage` as pending; its attempts are numbered on."""
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
