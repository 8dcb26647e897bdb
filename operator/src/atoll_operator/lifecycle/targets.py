"""Several compile targets: each has Jobs and attempts of its own, and the compile stage is what they come to. Pure.

While one of them is considered, everything reads as if the run had that target alone: `of_target` gives that run, and
`with_target` takes over what followed from it.
"""

from atoll_contract.document import replace
from atoll_contract.errors import Reason, bounded
from atoll_contract.stage import Stage
from atoll_operator.api.status import (
    DONE,
    MAX_STAGE_MESSAGE,
    CompileStatus,
    RunStatus,
    StagePhase,
    StageStatus,
)
from atoll_operator.lifecycle.compilation import with_target_texts
from atoll_operator.lifecycle.model import CompileChoice, JobView, RunView
from atoll_operator.lifecycle.transition import suspended_stage

# Reasons of a stage whose work goes on as it should.
_QUIET = frozenset({Reason.PENDING, Reason.RUNNING})


def of_target(
    run: RunView, status: RunStatus, choice: CompileChoice, jobs: tuple[JobView, ...]
) -> tuple[RunView, RunStatus, tuple[JobView, ...]]:
    """The run, its status and its Jobs as if `choice` were the only target."""
    entry = _entry(status, choice.target)
    own_run = replace(run, compile=(choice,), target=choice.target)
    own_status = replace(status.with_stage(entry.stage or StageStatus(Stage.COMPILE)), compile=(entry,))
    own_jobs = (job for job in jobs if job.stage is Stage.COMPILE and job.target == choice.target)
    return own_run, own_status, tuple(own_jobs)


def _entry(status: RunStatus, target: str) -> CompileStatus:
    return next((item for item in status.compile if item.target == target), None) or CompileStatus(target)


def with_target(status: RunStatus, after: RunStatus) -> RunStatus:
    """`status` with what `after`, which has one target alone, says of that target."""
    (entry,) = after.compile
    stage = after.stage(Stage.COMPILE)
    outputs = {item.name: item for item in status.stage(Stage.COMPILE).outputs}
    if stage.phase is StagePhase.SUCCEEDED:
        outputs |= {item.name: item for item in stage.outputs}
    entry = replace(entry, stage=replace(stage, outputs=()))
    known = {item.target: item for item in status.compile}
    changed = replace(status, compile=tuple((known | {entry.target: entry}).values()))
    whole = replace(_whole_stage(changed), outputs=tuple(outputs.values()))
    return with_target_texts(changed.with_stage(whole))


def with_suspended_targets(status: RunStatus) -> RunStatus:
    """`status` of a suspended run: none of its targets is at work."""
    entries = (
        replace(item, stage=suspended_stage(item.stage)) if item.stage and item.stage.phase not in DONE else item
        for item in status.compile
    )
    return replace(status, compile=tuple(entries))


def _whole_stage(status: RunStatus) -> StageStatus:
    """The compile stage that the stages of the targets come to."""
    stages = {item.target: item.stage or StageStatus(Stage.COMPILE) for item in status.compile}
    parts = tuple(stages.values())
    phase = _phase(parts)
    deciding = [target for target, stage in stages.items() if stage.phase is phase]
    # A target that something keeps from working says why, rather than one that works.
    leading = next((target for target in deciding if stages[target].reason not in _QUIET), deciding[0])
    leader, done = stages[leading], phase in DONE
    shown = stages if done else {target: stages[target] for target in deciding}
    message = "; ".join(f"{target}: {stage.message}" for target, stage in shown.items() if stage.message)
    completed = max((stage.completion_time for stage in parts if stage.completion_time), default=None)
    return replace(
        status.stage(Stage.COMPILE),
        phase=phase,
        reason=Reason.COMPLETED if phase is StagePhase.SUCCEEDED else leader.reason,
        message=bounded(message, MAX_STAGE_MESSAGE),
        attempts=max(stage.attempts for stage in parts),
        failures=max(stage.failures for stage in parts),
        job_ref=leader.job_ref,
        start_time=min((stage.start_time for stage in parts if stage.start_time), default=None),
        completion_time=completed if done or phase is StagePhase.FAILED else None,
        next_retry_time=None if done else leader.next_retry_time,
        pending_since=None if done else leader.pending_since,
        storage_failing_since=None if done else leader.storage_failing_since,
        last_failure=leader.last_failure,
        pod_seconds=sum(stage.pod_seconds for stage in parts),
    )


def _phase(stages: tuple[StageStatus, ...]) -> StagePhase:
    phases = {stage.phase for stage in stages}
    if StagePhase.FAILED in phases:
        return StagePhase.FAILED
    if phases <= DONE:
        return StagePhase.SUCCEEDED if StagePhase.SUCCEEDED in phases else StagePhase.SKIPPED
    return StagePhase.RUNNING if StagePhase.RUNNING in phases else StagePhase.PENDING
