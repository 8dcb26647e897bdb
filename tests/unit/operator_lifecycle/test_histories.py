"""decide: the invariants of a run over generated histories.

Each history is a random sequence of what a cluster, its users and the engine's own crashes may do to one run. 500
histories by default; `ATOLL_HISTORIES=10000` runs the long form.
"""

import os
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from atoll_contract.errors import Reason
from atoll_contract.stage import CompilePolicy, Stage
from atoll_operator.api.status import DONE, parse_time
from atoll_operator.api.status_codec import write_status
from atoll_operator.lifecycle.decide import decide
from atoll_operator.lifecycle.model import CompileChoice, PodPhase, QueueView
from atoll_operator.lifecycle.plan import Plan
from atoll_operator.lifecycle.stages import MAX_ATTEMPTS
from support.run_simulation import PROFILE, RunSimulation, failure, run_view, succeeded_stages, success

HISTORIES = int(os.environ.get("ATOLL_HISTORIES", "500"))
ORDER = [str(stage) for stage in Stage]
TERMINAL = {"Succeeded", "Failed", "Cancelled"}
# The reasons that the root condition of a waiting run may have.
NAMED = {str(reason) for reason in Reason}


class RunLife(RuleBasedStateMachine):
    """One run, to which anything may happen that a cluster allows."""

    @initialize(
        backoff=st.integers(0, 3),
        policy=st.sampled_from(list(CompilePolicy)),
        compiler=st.booleans(),
        deadline=st.sampled_from([None, 5000]),
        others=st.integers(0, 3),
        more=st.sampled_from([(), (), ("rknn",), ("rknn", "qnn", "hailo")]),
        policies=st.tuples(*[st.sampled_from(list(CompilePolicy))] * 3),
    )
    def begin(
        self,
        backoff: int,
        policy: CompilePolicy,
        compiler: bool,
        deadline: int | None,
        others: int,
        more: tuple[str, ...],
        policies: tuple[CompilePolicy, ...],
    ) -> None:
        further = (CompileChoice(target, own) for target, own in zip(more, policies, strict=False))
        run = run_view(
            backoff_limit=backoff,
            compile=(CompileChoice("edgetpu", policy), *further),
            profile=replace(PROFILE, has_compiler=compiler),
            active_deadline_seconds=deadline,
            ttl_seconds=200_000,
        )
        self.sim = RunSimulation(run=run, releases=dict.fromkeys(range(1, others + 1), "another-run"))
        self.recorded: set[str] = set()
        self.known_jobs: set[str] = set()
        self.ended: dict[str, Any] | None = None
        self.retries = 0
        # The step of the newest checkpoint, and the attempt of train that was cut after it had written it.
        self.saved = 0
        self.moved_on: int | None = None

    # The engine and its failures.

    @rule()
    def reconcile(self) -> None:
        self.sim.reconcile()

    @rule(step=st.sampled_from(["release_status", "status", "reserve", "create", "delete", "events"]))
    def reconcile_and_crash(self, step: str) -> None:
        self.sim.reconcile(crash_before=step)

    @rule()
    def reconcile_with_a_stale_status(self) -> None:
        """The engine acts on a status that is one write old, and its own write is refused (409)."""
        current = self.sim.status
        if len(self.sim.history) < 2 or self.ended is not None:
            return
        self.sim.status = self.sim.history[-2]
        plan = self.sim.decide()
        self.sim.status = current
        assert len({request.target for request in plan.create}) == len(plan.create)

    # The stages.

    @precondition(lambda self: self.sim.active_job() is not None)
    @rule()
    def pod_starts(self) -> None:
        self.sim.start()

    @precondition(lambda self: self.sim.active_job() is not None)
    @rule(adopted=st.booleans())
    def stage_succeeds(self, adopted: bool) -> None:
        job = self.sim.active_job()
        assert job is not None
        version = self.sim.requests[job.name].version or 1
        reason = Reason.ADOPTED if adopted else Reason.COMPLETED
        self.sim.succeed(success(job.stage, job.attempt, version=version, reason=reason, target=job.target))

    @rule()
    def another_job_is_next(self) -> None:
        self.sim.turn += 1

    @precondition(lambda self: self.sim.active_job() is not None)
    @rule(reason=st.sampled_from([r for r in Reason if r not in (Reason.COMPLETED, Reason.ADOPTED, Reason.CACHE_HIT)]))
    def stage_fails(self, reason: Reason) -> None:
        self.sim.fail(reason)

    @precondition(lambda self: self.sim.active_job() is not None)
    @rule(message=st.text(max_size=40), code=st.sampled_from([0, 1, 39, 50, 137, 255]))
    def stage_writes_no_result(self, message: str, code: int) -> None:
        if code == 0:
            self.sim.succeed(message)
        else:
            self.sim.fail(Reason.INTERNAL_ERROR, code=code, message=message)

    @precondition(lambda self: (job := self.sim.active_job()) is not None and job.stage is Stage.TRAIN)
    @rule(steps=st.integers(0, 2))
    def power_is_cut(self, steps: int) -> None:
        self.saved += steps
        line = f'ATOLL_PROGRESS {{"percent":1,"checkpointStep":{self.saved}}}\n'
        job = self.sim.fail(Reason.RESULT_MISSING, code=137, message=line)
        self.moved_on = job.attempt if steps else None

    @precondition(lambda self: self.sim.active_job() is not None)
    @rule(step=st.integers(1, 9))
    def version_is_taken(self, step: int) -> None:
        job = self.sim.active_job()
        assert job is not None
        if job.stage is not Stage.PUBLISH:
            return
        taken = max(self.sim.releases, default=0)
        summary = {"nextVersion": taken + step}
        self.sim.fail(
            Reason.VERSION_CONFLICT, message=failure(job.stage, job.attempt, Reason.VERSION_CONFLICT, summary)
        )

    @precondition(lambda self: self.sim.active_job() is not None)
    @rule(
        problem=st.sampled_from(
            [
                {"waiting_reason": "ImagePullBackOff", "waiting_message": "401"},
                {"waiting_reason": "CreateContainerConfigError", "waiting_message": 'secret "s3" not found'},
                {"unschedulable": "0/1 nodes: 1 Insufficient nvidia.com/gpu"},
                {"warning": "FailedMount: timed out"},
                {"phase": PodPhase.RUNNING, "node_lost": "node pi-3 is unreachable"},
                {"phase": PodPhase.RUNNING, "waiting_reason": "", "waiting_message": "", "unschedulable": ""},
            ]
        )
    )
    def pod_has_a_problem(self, problem: dict[str, Any]) -> None:
        job = self.sim.active_job()
        assert job is not None
        self.sim.pod_of(job, **problem)

    # The cluster and its users.

    @precondition(lambda self: bool(self.sim.jobs))
    @rule(data=st.data())
    def job_is_deleted(self, data: st.DataObject) -> None:
        # A Job that is deleted before a status has named it cannot be distinguished from one that was never created; it
        # is created again under its name. The window is the moment between a creation and the reconcile that follows.
        known = [name for name in self.sim.jobs if name in self.known_jobs]
        if known:
            self.moved_on = None
            self.sim.remove_job(data.draw(st.sampled_from(known)))

    @precondition(lambda self: bool(self.sim.pods))
    @rule()
    def pods_are_deleted(self) -> None:
        self.moved_on = None
        self.sim.pods.clear()

    @precondition(lambda self: self.sim.active_job() is not None)
    @rule()
    def job_lingers_in_deletion(self) -> None:
        job = self.sim.active_job()
        assert job is not None
        if job.name in self.known_jobs:
            self.sim.jobs[job.name] = replace(self.sim.jobs[job.name], deleting=True)

    @rule(seconds=st.sampled_from([1, 10, 130, 400, 2000, 30_000, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.sim.pass_time(seconds)

    @rule(suspend=st.booleans())
    def user_suspends_or_resumes(self, suspend: bool) -> None:
        self.sim.run = replace(self.sim.run, suspend=suspend, generation=self.sim.run.generation + 1)

    @precondition(lambda self: self.retries < 3)
    @rule(stage=st.sampled_from(["", ":train", ":convert"]))
    def user_retries(self, stage: str) -> None:
        self.retries += 1
        self.sim.run = replace(self.sim.run, retry=f"2027-01-09T20:00:0{self.retries}Z{stage}")
        if self.ended is not None and self.ended["phase"] == "Failed":
            self.ended = None
            if stage:
                self.recorded -= set(ORDER[ORDER.index(stage[1:]) :])

    @rule(ahead=st.integers(0, 3), others=st.booleans())
    def queue_moves(self, ahead: int, others: bool) -> None:
        self.sim.run = replace(self.sim.run, queue=QueueView(ahead, None, others))

    @rule(missing=st.booleans())
    def store_comes_and_goes(self, missing: bool) -> None:
        self.sim.run = replace(self.sim.run, missing="ObjectStore team/default" if missing else "")

    @rule()
    def somebody_else_publishes(self) -> None:
        self.sim.releases[max(self.sim.releases, default=0) + 1] = "another-run"

    @precondition(lambda self: self.retries == 3)
    @rule()
    def user_cancels(self) -> None:
        self.sim.run = replace(self.sim.run, cancel=True)

    # What must hold after each rule.

    @invariant()
    def no_job_is_created_twice(self) -> None:
        twice = {name: count for name, count in self.sim.created.items() if count > 1}
        recreated = {name for name in twice if name in self.known_jobs}
        assert not recreated
        for item in (*self._stages(), *self._targets()):
            if item.get("jobRef"):
                self.known_jobs.add(item["jobRef"]["name"])

    @invariant()
    def at_most_one_job_is_unfinished_but_for_those_of_the_targets(self) -> None:
        unfinished = [job for job in self.sim.jobs.values() if not job.is_finished]
        assert len(unfinished) <= 1 or all(job.target for job in unfinished)
        assert len({job.target for job in unfinished}) == len(unfinished)

    @invariant()
    def the_compile_stage_is_what_its_targets_come_to(self) -> None:
        parts, whole = self._targets(), next((item for item in self._stages() if item["name"] == "compile"), None)
        if whole is None or len(self.sim.run.compile) < 2:
            assert not parts
        elif whole["phase"] in set(DONE):
            assert {part["phase"] for part in parts} <= set(DONE)
            succeeded = {part["target"] for part in parts if part["phase"] == "Succeeded"}
            assert (whole["phase"] == "Succeeded") is bool(succeeded)
            # publish finds the files of every target that has any.
            found = {item["name"].rpartition(".")[0] or "edgetpu" for item in whole.get("outputs", [])}
            assert found == succeeded

    @invariant()
    def no_stage_before_its_predecessors_success(self) -> None:
        for name, request in self.sim.requests.items():
            if name in self.sim.jobs and not self.sim.jobs[name].is_finished:
                before = ORDER[: ORDER.index(request.stage)]
                done = {item["name"] for item in self._stages() if item["phase"] in set(DONE)}
                assert set(before) <= done | self._undone_by_retry()

    @invariant()
    def recorded_success_is_never_lost(self) -> None:
        now = succeeded_stages(self.sim.status)
        assert self.recorded - self._undone_by_retry() <= now
        self.recorded = now | (self.recorded - self._undone_by_retry())

    @invariant()
    def terminal_phases_never_change(self) -> None:
        phase = (self.sim.status or {}).get("phase")
        if self.ended is not None:
            same = {key: self.sim.status[key] for key in ("phase", "reason", "stages")} if self.sim.status else {}
            assert same == {key: self.ended[key] for key in ("phase", "reason", "stages")}
        elif phase in TERMINAL and not self._retry_is_pending():
            self.ended = self.sim.status

    @invariant()
    def every_plan_acts_or_waits_for_something_named_or_is_terminal(self) -> None:
        plan = self.sim.decide()
        self._assert_fixpoint(plan)
        root = next(item for item in plan.status.conditions if item.type == "Succeeded")
        if plan.status.is_terminal:
            assert root.status in ("True", "False")
            return
        acts = bool(plan.create or plan.delete or plan.reserve or plan.release_status)
        moves = acts or write_status(plan.status) != self.sim.status
        waits_for_user = plan.status.phase == "Suspended"
        waits = plan.requeue_after is not None and root.reason in NAMED and bool(root.message)
        assert moves or waits or waits_for_user, plan

    def _assert_fixpoint(self, plan: Plan) -> None:
        if plan.create or plan.delete or plan.reserve or plan.release_status or plan.requeue_after == 0:
            return  # the engine reconciles again at once
        again = decide(
            replace(self.sim.view(), status=plan.status),
            self.sim.jobs.values(),
            self.sim.pods.values(),
            self.sim.now,
        )
        assert again.status == plan.status
        assert not again.create
        assert not again.delete
        assert not again.events

    @invariant()
    def an_attempt_that_wrote_a_checkpoint_uses_up_no_backoff_limit(self) -> None:
        train = next((item for item in self._stages() if item["name"] == "train"), None)
        if train is None or self.moved_on is None or not self.sim.run.backoff_limit:
            return
        cut = train["attempts"] == self.moved_on and train["reason"] == "ResultMissing"
        assert not (cut and train["phase"] == "Failed" and train["attempts"] < MAX_ATTEMPTS), train

    @invariant()
    def only_own_versions_are_published(self) -> None:
        for version in self.sim.published:
            assert self.sim.releases[version] == self.sim.run.uid

    @invariant()
    def attempts_are_bounded(self) -> None:
        assert all(item["attempts"] <= MAX_ATTEMPTS for item in (*self._stages(), *self._targets()))

    def teardown(self) -> None:
        """Every run ends once its stages succeed and nothing else happens to it."""
        if not hasattr(self, "sim"):
            return
        sim = self.sim
        sim.run = replace(sim.run, suspend=False, queue=QueueView(), missing="")
        for name, job in list(sim.jobs.items()):
            if job.deleting:
                sim.remove_job(name)
        for _ in range(200):
            plan = sim.reconcile()
            if sim.read().is_terminal:
                return
            if sim.active_job() is not None and not plan.create:
                sim.succeed()
            elif plan.requeue_after:
                sim.pass_time(plan.requeue_after + 1)
        raise AssertionError(f"the run never ended: {sim.status}")

    def _stages(self) -> list[dict[str, Any]]:
        return list((self.sim.status or {}).get("stages", []))

    def _targets(self) -> list[dict[str, Any]]:
        """The compile stages of the targets."""
        entries = (self.sim.status or {}).get("compile", [])
        return [{"target": item["target"], **item["stage"]} for item in entries if "stage" in item]

    def _retry_is_pending(self) -> bool:
        status = self.sim.status or {}
        wanted = self.sim.run.retry
        return bool(status.get("phase") == "Failed" and wanted and wanted != status.get("lastHandledRetry"))

    def _undone_by_retry(self) -> set[str]:
        wanted = self.sim.run.retry or ""
        suffix = wanted.rsplit(":", 1)[-1]
        return set(ORDER[ORDER.index(suffix) :]) if suffix in ORDER else set()


RunLife.TestCase.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=30,
    deadline=None,
    derandomize="ATOLL_HISTORIES" not in os.environ,
    database=None,
    # The long form reports the history as it was found: shrinking one takes longer than finding it.
    phases=[Phase.generate] if "ATOLL_HISTORIES" in os.environ else list(Phase),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestRunLife = pytest.mark.timeout(300 + 3 * HISTORIES)(RunLife.TestCase)


def test_the_world_can_succeed_and_fail() -> None:
    """The histories above would prove nothing if no run in them could succeed or fail."""
    good = RunSimulation()
    good.finish()
    assert good.status is not None
    assert good.status["phase"] == "Succeeded"
    bad = RunSimulation()
    bad.settle()
    bad.fail(Reason.DATASET_UNSAFE)
    bad.settle()
    assert bad.status is not None
    assert bad.status["phase"] == "Failed"
    assert isinstance(parse_time(bad.status["completionTime"]).timestamp(), float)
