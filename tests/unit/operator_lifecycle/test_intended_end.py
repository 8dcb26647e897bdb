"""A run that is cancelled or out of time while it publishes, or whose publish stage fails, finds out what was
published, and then says that."""

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import ExitCode, Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase
from atoll_operator.lifecycle.intended_end import AFTER_FAILURE_SECONDS, FIND_OUT_SECONDS
from atoll_operator.lifecycle.model import JobState, PodPhase
from support.run_simulation import PROFILE, RunSimulation, run_view

PHASES = {"cancel": (Phase.CANCELLED, Reason.CANCELLED), "deadline": (Phase.FAILED, Reason.DEADLINE_EXCEEDED)}


def publishing() -> RunSimulation:
    sim = RunSimulation(run=run_view(active_deadline_seconds=600))
    sim.to_stage(Stage.PUBLISH)
    sim.start()
    sim.settle()
    return sim


def stop(sim: RunSimulation, kind: str) -> None:
    if kind == "cancel":
        sim.run = replace(sim.run, cancel=True)
    else:
        sim.pass_time(601)


def adopting(sim: RunSimulation) -> None:
    """Asserts that the only Job is an attempt that publishes nothing."""
    job = sim.active_job()
    assert job is not None, sim.status
    request = sim.requests[job.name]
    assert (request.stage, request.adopt_only, request.version) == (Stage.PUBLISH, True, 1)
    assert sim.read().intended_end is not None
    assert not sim.read().is_terminal


@pytest.mark.parametrize("kind", PHASES)
def test_O37_a_run_whose_manifest_was_out_has_succeeded(kind: str) -> None:
    sim = publishing()
    stop(sim, kind)
    sim.settle()
    adopting(sim)
    assert sim.stage(Stage.PUBLISH).attempts == 2
    sim.succeed()
    sim.settle()
    assert sim.read().phase is Phase.SUCCEEDED
    assert "before the end came" in sim.read().message
    assert sim.read().intended_end is None
    assert sim.published == {1}


@pytest.mark.parametrize("kind", PHASES)
def test_O37_a_run_that_has_published_nothing_ends_as_it_was_to(kind: str) -> None:
    sim = publishing()
    stop(sim, kind)
    sim.settle()
    sim.fail(Reason.CANCELLED, code=ExitCode.INTERNAL_ERROR)
    sim.settle()
    assert (sim.read().phase, sim.read().reason) == PHASES[kind]
    assert "note-v1: it was not published" in sim.read().message
    assert (sim.published, sim.active_job(), sim.read().intended_end) == (set(), None, None)


@pytest.mark.parametrize("kind", PHASES)
def test_O37_a_success_that_came_before_the_end_is_a_success(kind: str) -> None:
    sim = publishing()
    sim.succeed()
    stop(sim, kind)
    sim.settle()
    assert sim.read().phase is Phase.SUCCEEDED
    assert sim.published == {1}


def test_O37_no_attempt_looks_before_the_publishing_pod_is_gone() -> None:
    sim = publishing()
    (job,) = [job for job in sim.jobs.values() if job.publishes]
    stop(sim, "cancel")
    plan = sim.decide()
    assert [(item.name, item.with_pods) for item in plan.delete] == [(job.name, True)]
    sim._apply_status(plan)
    sim.jobs[job.name] = replace(job, deleting=True)
    for _ in range(3):
        sim.settle()
        assert sim.decide().create == ()
        sim.pass_time(10)
    sim.remove_job(job.name)
    sim.settle()
    adopting(sim)


def look_in_vain(sim: RunSimulation, *, every: int) -> tuple[float, int]:
    """Lets each attempt fail at a bucket that does not answer until the run is over. Returns how many seconds that
    took, and the number of attempts."""
    began, attempts = sim.now, 0
    while not sim.read().is_terminal:
        sim.settle()
        if sim.active_job() is not None:
            adopting(sim)
            attempts += 1
            sim.fail(Reason.STORAGE_UNAVAILABLE)
        sim.pass_time(every)
    return (sim.now - began).total_seconds(), attempts


def test_O37_while_the_bucket_does_not_answer_it_looks_again_and_in_the_end_says_so() -> None:
    sim = publishing()
    stop(sim, "cancel")
    seconds, attempts = look_in_vain(sim, every=60)
    assert FIND_OUT_SECONDS <= seconds <= FIND_OUT_SECONDS + 200
    assert attempts > 5
    assert sim.read().phase is Phase.CANCELLED
    assert "could not be found out" in sim.read().message


def test_O37_a_job_that_nothing_lets_start_does_not_keep_the_run_for_ever() -> None:
    sim = publishing()
    stop(sim, "cancel")
    sim.settle()
    job = sim.active_job()
    assert job is not None
    sim.jobs[job.name] = replace(job, state=JobState.SUSPENDED)
    sim.settle()
    assert not sim.read().is_terminal
    sim.pass_time(FIND_OUT_SECONDS)
    sim.settle()
    assert sim.read().phase is Phase.CANCELLED
    assert sim.active_job() is None


@pytest.mark.parametrize("stage", [Stage.CONVERT, Stage.TRAIN, Stage.EXPORT, Stage.COMPILE])
def test_O37_before_publish_an_end_is_an_end_at_once(stage: Stage) -> None:
    # Compile has a pod of its own where no other stage may have publish's service account.
    sim = RunSimulation(run=run_view(profile=replace(PROFILE, has_publish_service_account=True)))
    sim.to_stage(stage)
    stop(sim, "cancel")
    plan = sim.reconcile()
    assert plan.status.phase is Phase.CANCELLED
    assert not plan.create


def test_O37_a_suspended_run_that_is_cancelled_looks_too() -> None:
    sim = publishing()
    sim.run = replace(sim.run, suspend=True)
    sim.settle()
    assert sim.read().phase is Phase.SUSPENDED
    stop(sim, "cancel")
    sim.settle()
    adopting(sim)
    sim.succeed()
    sim.settle()
    assert sim.read().phase is Phase.SUCCEEDED


@pytest.mark.parametrize("step", ["status", "create"])
def test_O37_a_crash_in_between_changes_nothing(step: str) -> None:
    sim = publishing()
    stop(sim, "cancel")
    sim.reconcile(crash_before=step)
    sim.reconcile(crash_before=step)
    sim.settle()
    adopting(sim)
    sim.succeed()
    sim.settle()
    assert sim.read().phase is Phase.SUCCEEDED
    assert sim.published == {1}


def failed(reason: Reason = Reason.STORAGE_FORBIDDEN) -> RunSimulation:
    """A run whose publish stage has failed by itself and is not tried again."""
    sim = publishing()
    sim.fail(reason)
    sim.settle()
    return sim


def test_O50_a_failed_publish_whose_manifest_was_out_has_succeeded() -> None:
    sim = failed()
    adopting(sim)
    sim.succeed()
    sim.settle()
    assert sim.read().phase is Phase.SUCCEEDED
    assert "StorageForbidden happened" in sim.read().message
    assert (sim.published, sim.read().intended_end) == ({1}, None)


def test_O50_a_failed_publish_that_has_published_nothing_fails_with_its_own_reason() -> None:
    sim = failed()
    sim.fail(Reason.CANCELLED, code=ExitCode.INTERNAL_ERROR)
    sim.settle()
    assert (sim.read().phase, sim.read().reason) == (Phase.FAILED, Reason.STORAGE_FORBIDDEN)
    assert "StorageForbidden happened (note-v1: it was not published)" in sim.read().message
    assert (sim.published, sim.active_job(), sim.stage(Stage.PUBLISH).attempts) == (set(), None, 2)


def test_O50_attempts_that_are_used_up_are_followed_by_one_that_only_looks() -> None:
    sim = publishing()
    for _ in range(sim.run.backoff_limit + 1):
        job = sim.active_job()
        assert job is not None
        assert not sim.requests[job.name].adopt_only
        sim.fail(Reason.INTERNAL_ERROR, code=137, message="")
        sim.settle()
        sim.pass_time(30)
        sim.settle()
    adopting(sim)


def test_O50_what_fails_for_good_while_it_looks_ends_the_run() -> None:
    sim = failed()
    sim.fail(Reason.STORAGE_FORBIDDEN, code=None)
    sim.settle()
    assert (sim.read().phase, sim.read().reason) == (Phase.FAILED, Reason.STORAGE_FORBIDDEN)
    assert "could not be found out: StorageForbidden happened" in sim.read().message


def test_O50_while_the_bucket_does_not_answer_it_looks_again_for_ten_minutes() -> None:
    sim = failed()
    seconds, attempts = look_in_vain(sim, every=30)
    assert AFTER_FAILURE_SECONDS <= seconds <= AFTER_FAILURE_SECONDS + 60
    assert attempts > 2
    assert "could not be found out" in sim.read().message


def test_O50_a_publish_that_never_ran_ends_the_run_at_once() -> None:
    sim = publishing()
    job = sim.active_job()
    assert job is not None
    waiting = "couldn't find key in Secret"
    sim.pod_of(job, phase=PodPhase.PENDING, waiting_reason="CreateContainerConfigError", waiting_message=waiting)
    sim.settle()
    sim.pass_time(200)
    sim.settle()
    assert (sim.read().phase, sim.read().reason) == (Phase.FAILED, Reason.SECRET_NOT_FOUND)
    assert sim.active_job() is None


@pytest.mark.parametrize("reason", [Reason.VERSION_CONFLICT, Reason.INTEGRITY_MISMATCH])
def test_O50_what_is_known_is_not_looked_up(reason: Reason) -> None:
    sim = publishing()
    if reason is Reason.VERSION_CONFLICT:
        sim.fail(reason)
    else:
        sim.succeed(version=7)
    sim.settle()
    assert (sim.read().phase, sim.read().reason) == (Phase.FAILED, reason)
