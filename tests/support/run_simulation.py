"""Simulates what is around `decide`: one run, its Jobs, pods and ModelReleases, and an engine that applies plans.

Time passes only where a test says so. Nothing is mocked: it does what an API server and a Job controller do.
"""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from atoll_contract import keys
from atoll_contract.document import to_json
from atoll_contract.errors import Reason, exit_code
from atoll_contract.release import compile_artifact
from atoll_contract.stage import CompilePolicy, Stage
from atoll_contract.stage_result import Artifact, StageResult
from atoll_operator.api.status import RunStatus, StagePhase
from atoll_operator.api.status_codec import read_status, write_status
from atoll_operator.lifecycle.decide import decide
from atoll_operator.lifecycle.model import (
    CompileChoice,
    JobState,
    JobView,
    PodPhase,
    PodView,
    ProfileView,
    ReleaseView,
    RunView,
    StageAttempt,
)
from atoll_operator.lifecycle.plan import Plan, RunEvent
from atoll_operator.lifecycle.transition import stage_views

START = datetime(2027, 1, 9, 18, 0, tzinfo=UTC)
UID = "7b1e0000-0000-4000-8000-000000000001"
SHA = "a" * 64
PROFILE = ProfileView("default", "atoll-profile-1", "sha256:" + SHA, has_compiler=True, cpus=dict.fromkeys(Stage, 2.0))


def run_view(**changes: Any) -> RunView:
    """A run that may start at once."""
    base = RunView(
        namespace="team",
        name="note",
        uid=UID,
        generation=1,
        created=START,
        model="note",
        channel="stable",
        compile=(CompileChoice("edgetpu", CompilePolicy.BEST_EFFORT),),
        job_ttl_seconds=86_400,
        profile=PROFILE,
    )
    return replace(base, **changes)


def job_name(stage: Stage, attempt: int, target: str | None = None) -> str:
    return f"note-{target or stage}-{attempt}-0123abcd"


def artifact(name: str, key: str) -> Artifact:
    return Artifact(name, key, SHA, 10)


def outputs_of(stage: Stage, *, version: int = 1, target: str | None = None) -> tuple[Artifact, ...]:
    """The outputs of a stage, under keys that it may write."""
    if target is not None:
        folder = f"runs/team/{UID}/{stage}-{target}/a1-pod/"
        return tuple(
            artifact(compile_artifact(target, name), folder + name) for name in ("compiled", "log", "compilation")
        )
    prefix = f"runs/team/{UID}/{stage}/a1-pod/"
    if stage is Stage.CONVERT:
        return (artifact("dataset", f"cache/team/datasets/{SHA}/dataset.json"),)
    if stage is Stage.PUBLISH:
        return (
            artifact("manifest", keys.manifest("team", "note", version)),
            artifact("bundle", f"{prefix}model.tar.gz"),
        )
    names = {Stage.TRAIN: "weights", Stage.EXPORT: "model", Stage.COMPILE: "compiled"}
    return (artifact(names[stage], prefix + names[stage]),)


SUMMARIES: dict[Stage, dict[str, Any]] = {
    Stage.CONVERT: {"digest": SHA, "pictures": 110, "train": 80, "classes": [{"name": "RBC", "boxes": 7}]},
    Stage.EXPORT: {"metrics": {"float": {"ap50": 0.9}, "int8": {"ap50": 0.88, "perClass": {"RBC": 0.8}}}},
    Stage.COMPILE: {"compiled": True, "mappedPercent": 98.0},
}


def success(
    stage: Stage, attempt: int, *, version: int = 1, reason: Reason = Reason.COMPLETED, target: str | None = None
) -> str:
    """The termination message of a stage that succeeded."""
    outputs = outputs_of(stage, version=version, target=target)
    result = StageResult(stage, attempt, reason, f"{stage} done", outputs, SUMMARIES.get(stage, {}))
    return result.termination_message().decode()


def failure(stage: Stage, attempt: int, reason: Reason, summary: dict[str, Any] | None = None) -> str:
    return (
        StageResult(stage, attempt, reason, f"{reason} happened", summary=summary or {}).termination_message().decode()
    )


@dataclass
class RunSimulation:
    """One run and all that belongs to it."""

    run: RunView = field(default_factory=run_view)
    now: datetime = START
    jobs: dict[str, JobView] = field(default_factory=dict)
    pods: dict[str, PodView] = field(default_factory=dict)
    # Every ModelRelease of the model: version → owner's UID, and which are published.
    releases: dict[int, str] = field(default_factory=dict)
    published: set[int] = field(default_factory=set)
    status: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    created: Counter[str] = field(default_factory=Counter)
    requests: dict[str, StageAttempt] = field(default_factory=dict)
    events: list[RunEvent] = field(default_factory=list)
    writes: int = 0
    deleted_run: bool = False
    plan: Plan | None = None
    # Which of several unfinished Jobs is the active one.
    turn: int = 0
    _cached: tuple[dict[str, Any] | None, RunStatus | None] | None = None

    def view(self) -> RunView:
        own = [version for version, owner in self.releases.items() if owner == self.run.uid]
        release = None
        if own:
            release = ReleaseView(f"note-v{max(own)}", max(own), max(own) in self.published)
        return replace(self.run, status=self._parsed(), release=release, highest_version=max(self.releases, default=0))

    def _parsed(self) -> RunStatus | None:
        if self._cached is None or self._cached[0] is not self.status:
            self._cached = (self.status, read_status(self.status))
        return self._cached[1]

    def decide(self) -> Plan:
        self.plan = decide(self.view(), self.jobs.values(), self.pods.values(), self.now)
        return self.plan

    def reconcile(self, *, lose_status: bool = False, crash_before: str = "") -> Plan:
        """Decides and applies the plan. A lost status write seems to have succeeded; a crash stops before a step."""
        plan = self.decide()
        steps = ("release_status", "status", "reserve", "create", "delete", "events")
        for step in steps:
            if step == crash_before:
                return plan
            if step == "status" and lose_status:
                continue
            getattr(self, f"_apply_{step}")(plan)
        self.deleted_run = self.deleted_run or plan.delete_run
        return plan

    def settle(self, limit: int = 30) -> Plan:
        """Reconciles until nothing changes any more at this moment."""
        for _ in range(limit):
            before = self.state()
            plan = self.reconcile()
            if self.state() == before:
                return plan
        raise AssertionError(f"still changing after {limit} reconciles: {plan}")

    def state(self) -> tuple[Any, ...]:
        return (
            json.dumps(self.status, sort_keys=True),
            tuple(self.jobs.items()),
            dict(self.releases),
            set(self.published),
        )

    def _apply_release_status(self, plan: Plan) -> None:
        if plan.release_status:
            self.published.add(int(plan.release_status.name.rsplit("-v", 1)[1]))

    def _apply_status(self, plan: Plan) -> None:
        written = json.loads(to_json(write_status(plan.status)))
        if written != self.status:
            self.writes += 1
            self.status = written
            self.history.append(written)

    def _apply_reserve(self, plan: Plan) -> None:
        if plan.reserve and plan.reserve.version not in self.releases:
            self.releases[plan.reserve.version] = self.run.uid

    def _apply_create(self, plan: Plan) -> None:
        for request in plan.create:
            name = job_name(request.stage, request.attempt, request.target)
            if name in self.jobs:
                continue
            self.created[name] += 1
            self.requests[name] = request
            uid = f"{name}-{self.created[name]}"
            made = JobView(name, uid, self.run.uid, request.stage, request.attempt, JobState.ACTIVE, self.now)
            self.jobs[name] = replace(made, following=request.following, target=request.target)

    def _apply_delete(self, plan: Plan) -> None:
        for item in plan.delete:
            self.remove_job(item.name)

    def _apply_events(self, plan: Plan) -> None:
        self.events += plan.events

    # What the cluster and its users do.

    def remove_job(self, name: str) -> None:
        self.jobs.pop(name, None)
        self.pods = {key: pod for key, pod in self.pods.items() if pod.job != name}

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def active_job(self) -> JobView | None:
        """The unfinished Job as the stage that is at work in it sees it."""
        unfinished = [job for job in self.jobs.values() if not job.is_finished]
        if not unfinished:
            return None
        job = unfinished[self.turn % len(unfinished)]
        return stage_views(job, tuple(self.pods.values()), self._parsed())[-1]

    def next_stage(self, job: JobView) -> Stage | None:
        """The stage that follows this one in the Job's pod."""
        made = self.jobs[job.name]
        stages = [made.stage, *(number.stage for number in made.following)]
        return next(iter(stages[stages.index(job.stage) + 1 :]), None)

    def pod_of(self, job: JobView, **changes: Any) -> PodView:
        """The Job's pod as this stage sees it."""
        name = f"{job.name}-pod"
        key = f"{name}-{job.stage}"
        pod = self.pods.get(key) or PodView(name, name, job.name, PodPhase.PENDING, self.now, job.stage)
        self.pods[key] = replace(pod, **changes)
        return self.pods[key]

    def start(self) -> JobView:
        job = self.active_job()
        assert job is not None, self.status
        self.pod_of(job, phase=PodPhase.RUNNING, started=self.now)
        return job

    def succeed(self, message: str | None = None, *, version: int | None = None) -> JobView:
        """The container at work ends with exit code 0 and its result: the next one begins, or the Job has succeeded."""
        job = self.active_job()
        assert job is not None, self.status
        requested = self.requests[job.name].version or 1 if job.name in self.requests else 1
        done = success(job.stage, job.attempt, version=version or requested, target=job.target)
        text = done if message is None else message
        ended: dict[str, Any] = {
            "phase": PodPhase.SUCCEEDED,
            "exit_code": 0,
            "terminated_reason": "Completed",
            "finished": self.now,
        }
        self.pod_of(job, termination_message=text, **ended)
        following = self.next_stage(job)
        if following is not None:
            self.pod_of(replace(job, stage=following))
        else:
            self.jobs[job.name] = replace(self.jobs[job.name], state=JobState.SUCCEEDED, finished=self.now)
        return job

    def fail(self, reason: Reason, *, code: int | None = None, message: str | None = None, **pod: Any) -> JobView:
        """The container at work ends with a failure, and with it the Job."""
        job = self.active_job()
        assert job is not None, self.status
        text = failure(job.stage, job.attempt, reason) if message is None else message
        known = int(exit_code(reason)) if code is None else code
        ended: dict[str, Any] = {
            "phase": PodPhase.FAILED,
            "exit_code": known,
            "terminated_reason": "Error",
            "termination_message": text,
        }
        self.pod_of(job, **(ended | pod))
        failed: dict[str, Any] = {
            "state": JobState.FAILED,
            "finished": self.now,
            "failure_reason": "BackoffLimitExceeded",
        }
        self.jobs[job.name] = replace(self.jobs[job.name], **failed)
        return job

    def finish(self) -> None:
        """Every further stage succeeds at once."""
        for _ in range(40):
            self.settle()
            if self.read().is_terminal:
                return
            if self.active_job() is not None:
                self.succeed()
            else:
                self.pass_time(300)
        raise AssertionError(self.status)

    def read(self) -> RunStatus:
        status = read_status(self.status)
        assert status is not None
        return status

    def target(self, target: str) -> Any:
        """What the status says of a compile target."""
        return next(item for item in self.read().compile if item.target == target)

    def stage(self, stage: Stage) -> Any:
        return self.read().stage(stage)

    def to_stage(self, stage: Stage) -> None:
        """Goes on until `stage` is at work."""
        self.settle()
        for _ in range(8):
            job = self.active_job()
            if job is not None and job.stage is stage:
                return
            self.succeed()
            self.settle()
        raise AssertionError(self.status)


def succeeded_stages(status: dict[str, Any] | None) -> set[str]:
    return {item["name"] for item in (status or {}).get("stages", []) if item["phase"] == StagePhase.SUCCEEDED}
