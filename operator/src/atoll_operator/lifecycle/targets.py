"""The compile targets of a run: what came of each, and the compile stage as what several come to. Pure.

Several targets have Jobs and attempts of their own.
While one of them is considered, everything reads as if the run had that target alone: `of_target` gives that run, and
`with_target` takes over what followed from it.
"""

from datetime import datetime

from atoll_contract.document import replace
from atoll_contract.errors import Reason, bounded
from atoll_contract.release import EDGETPU
from atoll_contract.stage import CompilePolicy, Stage
from atoll_operator.api.status import (
    DONE,
    MAX_STAGE_MESSAGE,
    CompileStatus,
    RunStatus,
    StagePhase,
    StageStatus,
)
from atoll_operator.api.summaries import with_target_texts, without_compile
from atoll_operator.lifecycle.model import CompileChoice, JobView, ProfileView, RunView
from atoll_operator.lifecycle.transition import skip

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


def can_compile(profile: ProfileView, target: str) -> bool:
    """Whether there is an image to compile for the target; whether the compiler is in it, its stage finds out."""
    return profile.has_compiler or target in profile.compilers


def compile_left_out(run: RunView, stage: StageStatus) -> tuple[Reason, str] | None:
    """Reason and message of a compile stage for which no Job is created. `run` has one target at most."""
    policies = {choice.policy for choice in run.compile}
    if policies <= {CompilePolicy.DISABLED}:
        return Reason.COMPLETED, "compile is Disabled"
    if CompilePolicy.REQUIRED in policies or run.profile is None or stage.attempts > 0:
        return None
    if any(can_compile(run.profile, choice.target) for choice in run.compile):
        return None
    targets = [choice.target for choice in run.compile]
    if targets == [EDGETPU]:
        text = "no Edge TPU compiler is available (the profile names no compile image; locally: edgetpu_compiler)"
    else:
        text = f"no compiler for {', '.join(targets)} is available (the profile names no image for it; docs/targets.md)"
    return Reason.COMPILER_UNAVAILABLE, text


def skip_compile(
    run: RunView, status: RunStatus, stage: StageStatus, *, reason: Reason, message: str, now: datetime
) -> RunStatus:
    """`status` where the compile stage is left out and no target is compiled."""
    skipped = skip(status, stage, reason=reason, message=message, now=now)
    return without_compile(skipped, [choice.target for choice in run.compile], reason)
