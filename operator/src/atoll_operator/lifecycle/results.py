"""How an attempt ended, and what its success leaves in the run's status. Pure.

Termination messages and summaries come from a pod that worked on a user's data: they are believed only as far as
their schema, their bounds and their keys allow. A summary's entry that is missing (long ones are left out of
termination messages) or of the wrong type is ignored.
"""

import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from atoll_contract import keys
from atoll_contract.document import DecodeError, replace, rfc3339
from atoll_contract.errors import ExitCode, Reason, bounded, exit_code, is_transient
from atoll_contract.keys import RunRef
from atoll_contract.release import ManifestRef
from atoll_contract.stage import Stage
from atoll_contract.stage_result import (
    CHECKPOINT_STEP,
    UNLOADED_SECONDS,
    Artifact,
    Progress,
    StageResult,
    last_progress,
    parse_result,
    refused_output,
    without_progress,
)
from atoll_operator.api.status import DONE, RunStatus, StagePhase, StageStatus, short
from atoll_operator.api.summaries import count, dataset_figures, decimal, with_compilation, with_metrics
from atoll_operator.lifecycle.model import JobState, JobView, PodPhase, PodView, RunView
from atoll_operator.lifecycle.plan import ReleaseReport
from atoll_operator.lifecycle.targets import compile_left_out, of_target, skip_compile, with_target
from atoll_operator.lifecycle.transition import current_stage, newest_attempt, open_attempts, pods_of, with_job

# The kubelet takes this much of the log's end where a container left no termination message.
CUT_LOG_BYTES = 2048
MAX_TAIL = 300
# What TensorFlow and its libraries write of themselves at their start, whatever becomes of the stage.
_NOTICE = re.compile(
    r"(?:\d{4}-\d\d-\d\d [\d:.]+: [IW] |[IW]\d{4} [\d:.]+ +\d+ )\S+:\d+\] "
    r"|WARNING: All log messages before absl::InitializeLog\(\)|To enable the following instructions: "
)
# The Job controller's reason where the rule for disrupted workers (`jobs.manifest`) has ended the Job.
DISRUPTED_WORKER = "PodFailurePolicy"
# Failures that come from the cluster and not from the stage: another attempt may well succeed.
_RETRYABLE = frozenset({Reason.EVICTED, Reason.NODE_LOST, Reason.JOB_DELETED_EXTERNALLY, Reason.RESULT_MISSING})


@dataclass(frozen=True)
class AttemptOutcome:
    """The end of one attempt. `retry`: another attempt may help; `counts`: it uses up one of backoffLimit; `progress`:
    the last that it wrote, where its end left that to read."""

    reason: Reason
    message: str
    succeeded: bool = False
    exit_code: int | None = None
    outputs: tuple[Artifact, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    retry: bool = False
    counts: bool = True
    progress: Progress | None = None

    @property
    def checkpoint_step(self) -> int | None:
        """The step of the newest checkpoint that the attempt's end tells of."""
        step = self.summary.get(CHECKPOINT_STEP)
        if isinstance(step, int) and not isinstance(step, bool):
            return step
        return None if self.progress is None else self.progress.checkpoint_step


def record_successes(
    run: RunView, status: RunStatus, jobs: tuple[JobView, ...], pods: tuple[PodView, ...], now: datetime
) -> tuple[RunStatus, ReleaseReport | None]:
    """`status` with every stage that has succeeded or is left out, and with the Job of the next stage's open attempt;
    and the status of the ModelRelease where publish has succeeded."""
    report = None
    while (stage := current_stage(status)) is not None:
        if stage.name is Stage.COMPILE and run.has_several_targets:
            status = _record_targets(run, status, jobs, pods, now)
            if status.stage(Stage.COMPILE).phase not in DONE:
                break
            continue
        if stage.name is Stage.COMPILE and (left_out := compile_left_out(run, stage)):
            reason, message = left_out
            status = skip_compile(run, status, stage, reason=reason, message=message, now=now)
            continue
        success = _first_success(run, status, stage, jobs, pods)
        if success is None:
            # Whatever follows: a Job that a suspension deletes must not look like one that was never created.
            job = newest_attempt(stage, jobs)
            status = status.with_stage(with_job(stage, job)) if job else status
            break
        status, report = _record_success(run, status, *success, now)
    return status, report


def _record_targets(
    run: RunView, status: RunStatus, jobs: tuple[JobView, ...], pods: tuple[PodView, ...], now: datetime
) -> RunStatus:
    """`status` with every compile target that has succeeded or is left out, and with the Jobs of the others."""
    for choice in run.compile:
        own_run, own_status, own_jobs = of_target(run, status, choice, jobs)
        if own_status.stage(Stage.COMPILE).phase not in DONE:
            after, _ = record_successes(own_run, own_status, own_jobs, pods, now)
            status = with_target(status, after)
    return status


def _first_success(
    run: RunView, status: RunStatus, stage: StageStatus, jobs: tuple[JobView, ...], pods: tuple[PodView, ...]
) -> tuple[JobView, AttemptOutcome] | None:
    for job in open_attempts(stage, jobs):
        if job.state is JobState.SUCCEEDED and (outcome := evaluate(run, status, job, pods)).succeeded:
            return job, outcome
    return None


def evaluate(run: RunView, status: RunStatus, job: JobView, pods: Iterable[PodView]) -> AttemptOutcome:
    """The outcome of a finished Job, from its pod's exit code and termination message."""
    if job.state is JobState.REJECTED:
        return AttemptOutcome(Reason.INVALID_SPEC, f"admission denied: {job.failure_message}")
    if job.failure_reason == "DeadlineExceeded":
        text = f"Job {job.name}: {job.failure_message or 'it took too long'}"
        # The Job was held for longer than its own deadline allows: the run, whose clock stood still, has time left.
        return AttemptOutcome(Reason.DEADLINE_EXCEEDED, text, retry=True, counts=False)
    if job.failure_reason == DISRUPTED_WORKER:
        # The others have lost the work since the checkpoint with it, so that all begin anew together.
        text = f"Job {job.name} has lost a worker to a drain or preemption: {job.failure_message or 'no message'}"
        return AttemptOutcome(Reason.EVICTED, text, retry=True, counts=False)
    own = sorted(pods_of(job, pods), key=lambda pod: (pod.created, pod.name))
    if job.state is JobState.SUCCEEDED:
        # A pod that took the place of a disrupted one only finds what that one has left.
        own = [pod for pod in own if pod.phase is PodPhase.SUCCEEDED] or own
    ended = [pod for pod in own if pod.is_finished and not pod.disruption] or [pod for pod in own if pod.is_finished]
    if not ended:
        return _evaluate_without_pod(job)
    # What was recorded a moment ago counts among the earlier outputs.
    outcome = _evaluate_pod(replace(run, status=status), job, ended[-1])
    if outcome.succeeded and job.stage is Stage.PUBLISH and (problem := _manifest_problem(run, status, outcome)):
        return AttemptOutcome(Reason.INTEGRITY_MISMATCH, problem, exit_code=0)
    return outcome


def _evaluate_without_pod(job: JobView) -> AttemptOutcome:
    if job.state is JobState.SUCCEEDED:
        # The work is done and in the store; the next attempt finds and reports it, so this one does not count.
        text = f"the pod of Job {job.name} was removed before its result was read; the next attempt looks it up"
        return AttemptOutcome(Reason.RESULT_MISSING, text, retry=True, counts=False)
    text = f"the pod of Job {job.name} was deleted before its end was read ({job.failure_message or 'no message'})"
    return AttemptOutcome(Reason.RESULT_MISSING, text, retry=True)


def _evaluate_pod(run: RunView, job: JobView, pod: PodView) -> AttemptOutcome:
    if pod.terminated_reason == "OOMKilled":
        text = (
            f"the {job.stage} pod {pod.name} went over its memory limit; lower spec.training.batchSize or have the "
            f"profile's resources.{job.stage}.limits.memory raised"
        )
        return AttemptOutcome(Reason.OUT_OF_MEMORY, text, exit_code=pod.exit_code)
    if pod.reason == "Evicted":
        return _evicted(pod)
    result, problem = _read_result(job, pod)
    code = pod.exit_code if pod.exit_code is not None else (0 if job.state is JobState.SUCCEEDED else None)
    if code == 0 and job.state is JobState.SUCCEEDED:
        return _evaluate_success(run, job, result, problem)
    return _evaluate_failure(run, job, pod, result, code)


def _evicted(pod: PodView) -> AttemptOutcome:
    text = f"pod {pod.name} was evicted: {pod.message or pod.disruption or 'no message'}"
    lowered = pod.message.lower()
    if "emptydir" in lowered or "ephemeral" in lowered:
        hint = "; have the profile's scratch.sizeLimit raised, or use a smaller data set"
        return AttemptOutcome(Reason.EPHEMERAL_STORAGE_EXCEEDED, text + hint, exit_code=pod.exit_code)
    return AttemptOutcome(Reason.EVICTED, text, exit_code=pod.exit_code, retry=True)


def _read_result(job: JobView, pod: PodView) -> tuple[StageResult | None, str]:
    """The result in the termination message, or None and the reason why there is none."""
    if not pod.termination_message:
        return None, "its termination message is empty"
    try:
        result = parse_result(pod.termination_message, unknown_reason=_stands_for(pod.exit_code))
    except DecodeError as error:
        return None, bounded(f"its termination message cannot be read: {error}", 300)
    if result.stage != job.stage or result.attempt > job.attempt:
        return None, f"its result is that of {bounded(result.stage, 40)!r}, attempt {result.attempt}"
    return result, ""


def _evaluate_success(run: RunView, job: JobView, result: StageResult | None, problem: str) -> AttemptOutcome:
    if result is None:
        text = f"the {job.stage} stage ended with exit code 0 but without a result ({problem})"
        return AttemptOutcome(Reason.RESULT_MISSING, text, exit_code=0, retry=True)
    # A compile that failed under BestEffort is a result too: the stage has applied the policy.
    if exit_code(result.reason) is not ExitCode.OK and job.stage is not Stage.COMPILE:
        text = f"the {job.stage} stage ended with exit code 0 and the reason {result.reason}: {result.message}"
        return AttemptOutcome(Reason.RESULT_MISSING, text, exit_code=0, retry=True)
    if forged := _forged_output(run, job.stage, result):
        return AttemptOutcome(Reason.INTEGRITY_MISMATCH, forged, exit_code=0)
    return AttemptOutcome(
        result.reason,
        bounded(result.message),
        succeeded=True,
        exit_code=0,
        outputs=result.outputs,
        summary=result.summary,
    )


def _forged_output(run: RunView, stage: Stage, result: StageResult) -> str:
    """Why a result's outputs are refused, or nothing. Their keys must lie where this stage may write."""
    handed_on = set(_earlier_outputs(run, stage))
    return refused_output(result, prefixes=_writable_prefixes(run, stage), handed_on=handed_on)


def _writable_prefixes(run: RunView, stage: Stage) -> tuple[str, ...]:
    own = keys.run_prefix(RunRef(run.namespace, run.name, run.uid))
    if stage is Stage.CONVERT:
        return (own, f"cache/{run.namespace}/")
    if stage is Stage.PUBLISH:
        return (own, keys.model_prefix(run.namespace, run.model), "blobs/sha256/")
    return (own,)


def _earlier_outputs(run: RunView, stage: Stage) -> Iterator[Artifact]:
    """What earlier stages wrote: a stage may hand an artifact on as it is (export the label map)."""
    for item in run.status.stages if run.status else ():
        if item.name is stage:
            return
        yield from item.outputs


def _evaluate_failure(
    run: RunView, job: JobView, pod: PodView, result: StageResult | None, code: int | None
) -> AttemptOutcome:
    progress = last_progress(pod.termination_message) or pod.progress
    if result is not None and exit_code(result.reason) is not ExitCode.OK:
        reason, text = result.reason, result.message
    else:
        reason = _reason_of(code)
        if result is not None:
            # It was killed between its last word and its end.
            text = f"the {job.stage} stage ended with {_describe_exit(code)} after it had written its result; another"
            text += " attempt takes that over"
        else:
            ended = f"the {job.stage} stage ended with {_describe_exit(code)} and without a result"
            text = ended + _describe_tail(pod, progress)
    # A model below its gate is not published, but its report says why, and a user wants to read it.
    measured = job.stage is Stage.EXPORT and reason is Reason.QUALITY_GATE_FAILED
    return AttemptOutcome(
        reason,
        bounded(text),
        exit_code=code,
        outputs=result.outputs if result and measured and not _forged_output(run, job.stage, result) else (),
        summary=result.summary if result else {},
        retry=is_retryable(reason, code),
        counts=reason is not Reason.VERSION_CONFLICT and code != ExitCode.INTERRUPTED,
        progress=progress,
    )


def _describe_exit(code: int | None) -> str:
    """The exit code, with the signal that it stands for."""
    if code is None:
        return "no exit code"
    if code == 128 + signal.SIGKILL:
        return f"exit code {code} (signal 9: its node or the container runtime stopped, or memory ran out)"
    return f"exit code {code}" + (f" (signal {code - 128})" if 128 < code < 160 else "")


def _describe_tail(pod: PodView, progress: Progress | None) -> str:
    """How far the work was, and the end of its log without progress lines and notices of libraries; empty where
    nothing is known."""
    reached = f", at step {progress.step}" if progress is not None and progress.step is not None else ""
    text = pod.termination_message
    if len(text.encode()) >= CUT_LOG_BYTES and "\n" in text:
        # The kubelet cut it somewhere in its first line.
        text = text.partition("\n")[2]
    lines = without_progress(text).splitlines()
    # The newest lines are at the end.
    tail = " ".join(" ".join(line for line in lines if not _NOTICE.match(line)).split())[-MAX_TAIL:]
    reason = "" if pod.terminated_reason == "Error" else pod.terminated_reason
    said = tail or pod.message or reason
    return f"{reached}; its last words: {said}" if said else reached


def _reason_of(code: int | None) -> Reason:
    """The reason that follows from the exit code alone."""
    if code == ExitCode.DISK_FULL:
        return Reason.EPHEMERAL_STORAGE_EXCEEDED
    names = {item.value: item.name for item in ExitCode}
    return Reason.__members__.get(names.get(code or 0, ""), Reason.RESULT_MISSING)


def _stands_for(code: int | None) -> Reason:
    """What a result's reason of a newer version is read as: the exit code says whether the stage succeeded, and whether
    another attempt may help."""
    if code == ExitCode.OK:
        return Reason.COMPLETED
    reason = _reason_of(code)
    return Reason.INTERNAL_ERROR if reason is Reason.RESULT_MISSING else reason


def is_retryable(reason: Reason, code: int | None) -> bool:
    """Whether a failed attempt may be followed by another. `code` is the container's, None where none is known."""
    if reason in _RETRYABLE:
        return True
    if reason is Reason.OUT_OF_MEMORY:
        # The same work needs the same memory.
        return False
    known = code or ExitCode.__members__.get(reason.name)
    return known is not None and is_transient(known)


def _manifest_problem(run: RunView, status: RunStatus, outcome: AttemptOutcome) -> str:
    """Why a publish stage's success is refused, or nothing: its manifest must be that of the reserved version."""
    manifest = _manifest_of(outcome)
    wanted = keys.manifest(run.namespace, run.model, status.release.version) if status.release else "a reserved version"
    if manifest is not None and manifest.key == wanted:
        return ""
    return f"the publish stage reports {manifest.key if manifest else 'no manifest'!r}, {wanted!r} was reserved"


def _manifest_of(outcome: AttemptOutcome) -> Artifact | None:
    return next((item for item in outcome.outputs if item.name == "manifest"), None)


def _record_success(
    run: RunView, status: RunStatus, job: JobView, outcome: AttemptOutcome, now: datetime
) -> tuple[RunStatus, ReleaseReport | None]:
    """The status in which the Job's stage has succeeded, and the status of the ModelRelease where that is publish."""
    done = replace(
        with_job(status.stage(job.stage), job),
        phase=StagePhase.SUCCEEDED,
        reason=outcome.reason,
        message=short(outcome.message),
        completion_time=rfc3339(job.finished or now),
        pending_since=None,
        storage_failing_since=None,
        outputs=outcome.outputs,
    )
    status = _with_figures(run, status.with_stage(done), job.stage, outcome)
    release = status.release
    if job.stage is not Stage.PUBLISH or release is None or release.manifest is None:
        return status, None
    if run.release is not None and run.release.published:
        return status, None
    return status, ReleaseReport(
        release.name, release.manifest, status.summary.ap50, status.summary.tpu, status.summary.targets
    )


def _with_figures(run: RunView, status: RunStatus, stage: Stage, outcome: AttemptOutcome) -> RunStatus:
    """`status` with the figures of a stage that succeeded, typed and bounded."""
    measured = count(outcome.summary, UNLOADED_SECONDS) or None
    status = status.with_stage(replace(status.stage(stage), unloaded_seconds=measured))
    if stage is Stage.CONVERT:
        return replace(status, dataset=dataset_figures(outcome.summary))
    if stage is Stage.TRAIN:
        best = decimal(outcome.summary.get("ap50"))
        return status.with_curve_point(count(outcome.summary, "bestStep"), float(best) if best else None)
    if stage is Stage.EXPORT:
        return with_metrics(status, outcome.summary)
    if stage is Stage.COMPILE:
        return with_compilation(status, [choice.target for choice in run.compile], outcome.reason, outcome.summary)
    return _with_manifest(status, outcome)


def _with_manifest(status: RunStatus, outcome: AttemptOutcome) -> RunStatus:
    manifest = _manifest_of(outcome)
    if status.release is None or manifest is None:
        return status
    release = replace(status.release, manifest=ManifestRef(manifest.key, manifest.sha256, manifest.size))
    return replace(status, release=release, summary=replace(status.summary, release=release.name))
