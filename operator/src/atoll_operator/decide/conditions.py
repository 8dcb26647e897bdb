"""The conditions of a run, derived whole from its phase, reason and stages. Pure."""

from collections.abc import Iterator
from datetime import datetime

from atoll_contract.errors import bounded
from atoll_contract.reasons import Reason
from atoll_contract.stage import Stage
from atoll_operator.status import Condition, Phase, RunStatus, StagePhase, rfc3339
from atoll_operator.views import RunView

# What somebody must come and mend. kstatus (Helm, Flux, Argo CD) reads Stalled as failed.
STALLING = frozenset(
    {
        Reason.IMAGE_PULL_FAILED,
        Reason.SECRET_NOT_FOUND,
        Reason.PROFILE_NOT_FOUND,
        Reason.OBJECT_STORE_NOT_FOUND,
        Reason.INVALID_SPEC,
    }
)
_DATASET = frozenset(
    {
        Reason.DATASET_NOT_FOUND,
        Reason.DATASET_CHANGED,
        Reason.DATASET_UNSAFE,
        Reason.DATASET_TOO_LARGE,
        Reason.DATASET_MALFORMED,
        Reason.ANNOTATION_INVALID,
        Reason.NO_USABLE_EXAMPLES,
        Reason.INTEGRITY_MISMATCH,
    }
)
_QUALITY = frozenset({Reason.QUALITY_GATE_FAILED, Reason.OPS_NOT_MAPPED})

_Verdict = tuple[str, str, Reason, str]


def conditions(run: RunView, status: RunStatus, now: datetime) -> tuple[Condition, ...]:
    """Every condition of `status`; a transition time stays where the condition's status does."""
    before = {item.type: item for item in status.conditions}
    found = []
    for kind, value, reason, message in _wanted(run, status):
        old = before.get(kind)
        since = old.last_transition_time if old and old.status == value else rfc3339(now)
        found.append(Condition(kind, value, reason, bounded(message), since, run.generation))
    return tuple(found)


def _wanted(run: RunView, status: RunStatus) -> Iterator[_Verdict]:
    root = {Phase.SUCCEEDED: "True", Phase.FAILED: "False", Phase.CANCELLED: "False"}.get(status.phase, "Unknown")
    yield "Succeeded", root, status.reason, status.message
    if status.phase in (Phase.FAILED, Phase.CANCELLED):
        yield "Stalled", "True", status.reason, status.message
    elif status.phase not in (Phase.SUCCEEDED, Phase.SUSPENDED):
        kind = "Stalled" if status.reason in STALLING or run.hindrance else "Reconciling"
        yield kind, "True", status.reason, status.message
    if status.stages:
        yield _dataset_valid(status)
        yield _quality_passed(run, status)
        yield _published(status)


def _dataset_valid(status: RunStatus) -> _Verdict:
    stage = status.stage(Stage.CONVERT)
    if stage.phase is StagePhase.SUCCEEDED:
        return "DatasetValid", "True", stage.reason, stage.message
    if stage.phase is StagePhase.FAILED and stage.reason in _DATASET:
        return "DatasetValid", "False", stage.reason, stage.message
    return "DatasetValid", "Unknown", Reason.PENDING, "the data set is not converted yet"


def _quality_passed(run: RunView, status: RunStatus) -> _Verdict:
    failed = next((item for item in status.stages if item.phase is StagePhase.FAILED and item.reason in _QUALITY), None)
    if failed:
        return "QualityPassed", "False", failed.reason, failed.message
    if status.stage(Stage.EXPORT).phase is not StagePhase.SUCCEEDED:
        return "QualityPassed", "Unknown", Reason.PENDING, "the model is not measured yet"
    if not run.quality_gated:
        return "QualityPassed", "True", Reason.COMPLETED, "no quality gate is set"
    return "QualityPassed", "True", Reason.COMPLETED, f"int8 AP50 is {status.summary.ap50 or 'unknown'}"


def _published(status: RunStatus) -> _Verdict:
    stage = status.stage(Stage.PUBLISH)
    if stage.phase is StagePhase.SUCCEEDED and status.release:
        return "Published", "True", Reason.COMPLETED, f"published as {status.release.name}"
    if stage.phase is StagePhase.FAILED:
        return "Published", "False", stage.reason, stage.message
    return "Published", "Unknown", Reason.PENDING, "nothing is published yet"
