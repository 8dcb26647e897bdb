"""How an attempt ended: the verdict on a finished Job, from its pod's exit code and termination message. Pure.

The termination message comes from a pod that worked on a user's data: it is believed only as far as its schema,
its bounds and its keys allow.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll_contract import keys
from atoll_contract.document import DecodeError
from atoll_contract.errors import ExitCode, Reason, bounded, exit_code
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact, StageResult, parse_result
from atoll_operator.lifecycle.model import JobState, JobView, PodView, RunView
from atoll_operator.lifecycle.retry_policy import worth_another

MAX_OUTPUTS = 16
MAX_DISRUPTIONS = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9._/+=@ -]{1,512}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Verdict:
    """The end of one attempt. `retry`: another attempt may help; `counts`: it uses up one of backoffLimit."""

    reason: Reason
    message: str
    succeeded: bool = False
    exit_code: int | None = None
    outputs: tuple[Artifact, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    retry: bool = False
    counts: bool = True


def judge(run: RunView, job: JobView, pods: Iterable[PodView]) -> Verdict:
    """The verdict on a finished Job."""
    if job.state is JobState.REJECTED:
        return Verdict(Reason.INVALID_SPEC, f"admission denied: {job.failure_message}")
    own = sorted((pod for pod in pods if pod.job == job.name), key=lambda pod: (pod.created, pod.name))
    if job.failure_reason == "DeadlineExceeded":
        return Verdict(Reason.DEADLINE_EXCEEDED, f"Job {job.name}: {job.failure_message or 'it took too long'}")
    ended = [pod for pod in own if pod.is_finished and not pod.disruption] or [pod for pod in own if pod.is_finished]
    if not ended:
        return _without_pod(job)
    return _judge_pod(run, job, ended[-1])


def _without_pod(job: JobView) -> Verdict:
    if job.state is JobState.SUCCEEDED:
        # The work is done and lies in the store; the next attempt finds and reports it, so it costs no try.
        text = f"the pod of Job {job.name} was removed before its result was read; the next attempt looks it up"
        return Verdict(Reason.RESULT_MISSING, text, retry=True, counts=False)
    text = f"Job {job.name} failed and its pod is gone: {job.failure_message or 'no message'}"
    return Verdict(Reason.RESULT_MISSING, text, retry=True)


def _judge_pod(run: RunView, job: JobView, pod: PodView) -> Verdict:
    if pod.terminated_reason == "OOMKilled":
        text = (
            f"the {job.stage} pod {pod.name} went over its memory limit; lower spec.training.batchSize or have the "
            f"profile's resources.{job.stage}.limits.memory raised"
        )
        return Verdict(Reason.OUT_OF_MEMORY, text, exit_code=pod.exit_code)
    if pod.reason == "Evicted":
        return _evicted(pod)
    result, problem = _read_result(job, pod)
    code = pod.exit_code if pod.exit_code is not None else (0 if job.state is JobState.SUCCEEDED else None)
    if code == 0 and job.state is JobState.SUCCEEDED:
        return _judge_success(run, job, result, problem)
    return _judge_failure(job, pod, result, code)


def _evicted(pod: PodView) -> Verdict:
    words = f"pod {pod.name} was evicted: {pod.message or pod.disruption or 'no message'}"
    lowered = pod.message.lower()
    if "emptydir" in lowered or "ephemeral" in lowered:
        hint = "; have the profile's scratch.sizeLimit raised, or use a smaller data set"
        return Verdict(Reason.EPHEMERAL_STORAGE_EXCEEDED, words + hint, exit_code=pod.exit_code)
    return Verdict(Reason.EVICTED, words, exit_code=pod.exit_code, retry=True)


def _judge_success(run: RunView, job: JobView, result: StageResult | None, problem: str) -> Verdict:
    if result is None:
        text = f"the {job.stage} stage ended with exit code 0 but without a result ({problem})"
        return Verdict(Reason.RESULT_MISSING, text, exit_code=0, retry=True)
    # A compile that could not be done under BestEffort is a result too; the stage has weighed the policy.
    if exit_code(result.reason) is not ExitCode.OK and job.stage is not Stage.COMPILE:
        text = f"the {job.stage} stage ended with exit code 0 and the reason {result.reason}: {result.message}"
        return Verdict(Reason.RESULT_MISSING, text, exit_code=0, retry=True)
    if forged := forged_output(run, job.stage, result.outputs):
        return Verdict(Reason.INTEGRITY_MISMATCH, forged, exit_code=0)
    return Verdict(
        result.reason,
        bounded(result.message),
        succeeded=True,
        exit_code=0,
        outputs=result.outputs,
        summary=result.summary,
    )


def _judge_failure(job: JobView, pod: PodView, result: StageResult | None, code: int | None) -> Verdict:
    if result is not None and exit_code(result.reason) is not ExitCode.OK:
        reason, text = result.reason, result.message
    else:
        reason = _reason_of(code)
        words = bounded(pod.termination_message or pod.message or pod.terminated_reason or "no message", 300)
        text = f"the {job.stage} stage ended with {_named(code)} and without a result; its last words: {words}"
    summary = result.summary if result else {}
    retry = worth_another(reason, code)
    counts = not (reason is Reason.VERSION_CONFLICT or code == ExitCode.INTERRUPTED)
    return Verdict(reason, bounded(text), exit_code=code, summary=summary, retry=retry, counts=counts)


def _read_result(job: JobView, pod: PodView) -> tuple[StageResult | None, str]:
    if not pod.termination_message:
        return None, "its termination message is empty"
    try:
        result = parse_result(pod.termination_message)
    except DecodeError as error:
        return None, bounded(f"its termination message is none: {error}", 300)
    if result.stage != job.stage or result.attempt > job.attempt:
        return None, f"its result is that of {bounded(result.stage, 40)!r}, attempt {result.attempt}"
    return result, ""


def _reason_of(code: int | None) -> Reason:
    """The reason that an exit code alone tells."""
    names = {item.value: item.name for item in ExitCode}
    name = names.get(code or 0, "")
    if name == "DISK_FULL":
        return Reason.EPHEMERAL_STORAGE_EXCEEDED
    return Reason.__members__.get(name, Reason.RESULT_MISSING)


def _named(code: int | None) -> str:
    if code is None:
        return "no exit code"
    return f"exit code {code}" + (f" (signal {code - 128})" if 128 < code < 160 else "")


def forged_output(run: RunView, stage: Stage, outputs: Iterable[Artifact]) -> str:
    """What is wrong with a result's outputs: a sentence, or nothing. Keys must lie where this stage may write."""
    listed = list(outputs)
    if len(listed) > MAX_OUTPUTS or len({item.name for item in listed}) != len(listed):
        allowed = f"at most {MAX_OUTPUTS}, each with its own name, are allowed"
        return f"the result of stage {stage} has {len(listed)} outputs; {allowed}"
    prefixes = _writable(run, stage)
    handed_on = set(_recorded(run, stage))
    for item in listed:
        well_formed = _NAME.fullmatch(item.name) and _KEY.fullmatch(item.key) and _SHA256.fullmatch(item.sha256)
        if not well_formed or item.size < 0:
            return f"the result of stage {stage} has a malformed output {bounded(item.name, 64)!r}"
        inside = any(item.key.startswith(prefix) for prefix in prefixes) or item in handed_on
        if not inside or ".." in item.key.split("/"):
            return f"the result of stage {stage} names {item.key!r}, which is not under {' or '.join(prefixes)}"
    return ""


def _recorded(run: RunView, stage: Stage) -> Iterator[Artifact]:
    """What earlier stages left: a stage may hand an artifact on as it is (export the label map)."""
    for item in run.status.stages if run.status else ():
        if item.name is stage:
            return
        yield from item.outputs


def _writable(run: RunView, stage: Stage) -> tuple[str, ...]:
    own = keys.run_prefix(RunRef(run.namespace, run.name, run.uid))
    if stage is Stage.CONVERT:
        return (own, f"cache/{run.namespace}/")
    if stage is Stage.PUBLISH:
        return (own, keys.model_prefix(run.namespace, run.model), "blobs/sha256/")
    return (own,)
