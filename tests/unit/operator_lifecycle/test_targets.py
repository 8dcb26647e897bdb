"""decide: several compile targets. Each has Jobs, attempts and a verdict of its own; publish waits for all."""

import json
from dataclasses import replace
from typing import Any

from atoll_contract.document import to_json
from atoll_contract.errors import Reason
from atoll_contract.stage import CompilePolicy, Stage
from atoll_contract.stage_result import StageResult
from atoll_operator.api.status import MAX_STATUS_BYTES, Phase, StagePhase
from atoll_operator.api.status_codec import write_status
from atoll_operator.lifecycle.model import CompileChoice, JobView, PodPhase
from support.run_simulation import PROFILE, RunSimulation, outputs_of, run_view

ALL = ("edgetpu", "rknn", "qnn", "hailo")
FIGURES = {"ap50": 0.8624, "ap": 0.5011, "source": "simulator"}


def choices(*targets: str, **policies: CompilePolicy) -> tuple[CompileChoice, ...]:
    return tuple(CompileChoice(target, policies.get(target, CompilePolicy.BEST_EFFORT)) for target in targets)


def compiling(*targets: str, compilers: frozenset[str] | None = None, **policies: CompilePolicy) -> RunSimulation:
    """A run whose targets are at work."""
    profile = PROFILE if compilers is None else replace(PROFILE, has_compiler=False, compilers=compilers)
    sim = RunSimulation(run=run_view(compile=choices(*targets, **policies), profile=profile))
    sim.settle()
    for _ in range(3):
        sim.succeed()
        sim.settle()
    return sim


def at_work(sim: RunSimulation) -> dict[str, JobView]:
    return {job.target or str(job.stage): job for job in sim.jobs.values() if not job.is_finished}


def turn_to(sim: RunSimulation, target: str) -> None:
    sim.turn = list(at_work(sim)).index(target)


def report(target: str, **summary: Any) -> str:
    outputs = outputs_of(Stage.COMPILE, target=target)
    facts = {"target": target, "compiled": True, "mappedPercent": 98.2, **summary}
    return StageResult("compile", 1, Reason.COMPLETED, f"{target} done", outputs, facts).termination_message().decode()


def test_every_target_gets_a_job_of_its_own_at_once_and_publish_one_after_them() -> None:
    sim = compiling("edgetpu", "rknn", "qnn")
    assert sorted(at_work(sim)) == ["edgetpu", "qnn", "rknn"]
    assert {sim.requests[job.name].following for job in at_work(sim).values()} == {()}
    assert sim.read().phase is Phase.COMPILING
    for target in ("rknn", "qnn"):
        turn_to(sim, target)
        sim.succeed(report(target, figures=FIGURES, compilerVersion="2.5.0", chip="a chip"))
        sim.settle()
        assert "publish" not in at_work(sim)
    assert sim.target("rknn").stage.phase is StagePhase.SUCCEEDED
    assert sim.stage(Stage.COMPILE).phase is StagePhase.RUNNING
    sim.succeed(report("edgetpu"))
    sim.settle()
    assert list(at_work(sim)) == ["publish"]
    (publish,) = at_work(sim).values()
    given = {item.name for item in sim.requests[publish.name].upstream[Stage.COMPILE]}
    assert given == {
        f"{prefix}{name}" for prefix in ("", "rknn.", "qnn.") for name in ("compiled", "log", "compilation")
    }
    sim.finish()
    status = sim.read()
    assert status.phase is Phase.SUCCEEDED
    assert (status.summary.targets, status.summary.tpu) == ("edgetpu 98.2%, rknn 0.86, qnn 0.86", "98.2%")
    rknn = sim.target("rknn")
    assert (rknn.compiled, rknn.compiler_version, rknn.chip) == (True, "2.5.0", "a chip")
    assert (rknn.figures.ap50, rknn.figures.source) == ("0.8624", "simulator")
    assert (rknn.predicted_mapped_percent, sim.target("edgetpu").figures) == ("", None)


def test_a_target_that_fails_leaves_the_others() -> None:
    sim = compiling("edgetpu", "rknn")
    turn_to(sim, "rknn")
    sim.fail(Reason.QUALITY_GATE_FAILED, code=45)
    sim.settle()
    entry = sim.target("rknn")
    assert (entry.compiled, entry.reason, entry.stage.phase) == (False, Reason.QUALITY_GATE_FAILED, StagePhase.SKIPPED)
    assert list(at_work(sim)) == ["edgetpu"]
    sim.succeed(report("edgetpu"))
    sim.finish()
    assert sim.read().summary.targets == "edgetpu 98.2%, rknn refused"
    assert {item.name for item in sim.stage(Stage.COMPILE).outputs} == {"compiled", "log", "compilation"}


def test_a_target_without_an_image_gets_no_job_and_one_without_a_tool_says_so() -> None:
    sim = compiling("edgetpu", "rknn", "qnn", compilers=frozenset({"rknn", "qnn"}))
    assert sorted(at_work(sim)) == ["qnn", "rknn"]
    assert sim.target("edgetpu").reason is Reason.COMPILER_UNAVAILABLE
    turn_to(sim, "rknn")
    missing = {"target": "rknn", "compiled": False, "reason": "CompilerUnavailable"}
    result = StageResult("compile", 1, Reason.COMPLETED, "not compiled: no compiler for rknn", (), missing)
    sim.succeed(result.termination_message().decode())
    sim.settle()
    sim.succeed(report("qnn", figures=FIGURES))
    sim.finish()
    status = sim.read()
    assert status.summary.targets == "edgetpu no compiler, rknn no compiler, qnn 0.86"
    assert "no compiler for rknn" in status.stage(Stage.COMPILE).message


def test_a_required_target_that_fails_ends_the_run_and_the_others() -> None:
    sim = compiling("edgetpu", "rknn", rknn=CompilePolicy.REQUIRED)
    turn_to(sim, "rknn")
    sim.fail(Reason.COMPILE_FAILED, code=42)
    sim.settle()
    status = sim.read()
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.COMPILE_FAILED)
    assert status.message == "rknn: CompileFailed happened"
    assert status.stage(Stage.COMPILE).phase is StagePhase.FAILED
    assert not at_work(sim)


def test_a_required_target_without_an_image_ends_the_run_before_it_trains() -> None:
    profile = replace(PROFILE, has_compiler=False, compilers=frozenset({"rknn"}))
    policies = {"qnn": CompilePolicy.REQUIRED}
    sim = RunSimulation(run=run_view(compile=choices("rknn", "qnn", **policies), profile=profile))
    sim.settle()
    status = sim.read()
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.COMPILER_UNAVAILABLE)
    assert "of qnn Required" in status.message
    assert not sim.created


def test_targets_that_are_disabled_or_all_left_out_do_not_hold_publish_back() -> None:
    sim = compiling("edgetpu", "rknn", "qnn", compilers=frozenset(), rknn=CompilePolicy.DISABLED)
    assert sim.stage(Stage.COMPILE).phase is StagePhase.SKIPPED
    sim.finish()
    assert sim.read().summary.targets == "edgetpu no compiler, rknn off, qnn no compiler"
    assert not any(target in name for name in sim.created for target in ALL)


def test_each_target_has_its_own_attempts() -> None:
    sim = compiling("rknn", "qnn")
    turn_to(sim, "qnn")
    sim.fail(Reason.STORAGE_UNAVAILABLE)
    sim.settle()
    entry = sim.target("qnn")
    assert (entry.stage.phase, entry.stage.failures) == (StagePhase.PENDING, 0)
    assert list(at_work(sim)) == ["rknn"]
    assert sim.stage(Stage.COMPILE).phase is StagePhase.RUNNING
    sim.pass_time(10)
    sim.settle()
    assert (sim.target("qnn").stage.attempts, sim.target("rknn").stage.attempts) == (2, 1)
    assert sim.created["note-qnn-2-0123abcd"] == 1
    assert sim.created["note-rknn-1-0123abcd"] == 1


def test_a_suspended_run_goes_on_with_the_targets_that_are_left() -> None:
    sim = compiling("rknn", "qnn")
    turn_to(sim, "rknn")
    sim.succeed(report("rknn", figures=FIGURES))
    sim.settle()
    sim.run = replace(sim.run, suspend=True)
    sim.settle()
    assert not at_work(sim)
    assert sim.target("qnn").stage.reason is Reason.SUSPENDED
    sim.run = replace(sim.run, suspend=False)
    sim.settle()
    assert list(at_work(sim)) == ["qnn"]
    assert sim.target("qnn").stage.attempts == 2
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    assert sim.created["note-rknn-1-0123abcd"] == 1


def test_what_keeps_one_target_from_working_is_said_though_others_work() -> None:
    sim = compiling("rknn", "qnn")
    jobs = at_work(sim)
    sim.pod_of(jobs["rknn"], phase=PodPhase.RUNNING, started=sim.now)
    sim.pod_of(jobs["qnn"], waiting_reason="ErrImagePull", waiting_message="401")
    sim.settle()
    status = sim.read()
    assert status.reason is Reason.IMAGE_PULL_FAILED
    assert "qnn: " in status.message
    sim.pass_time(PROFILE.pending_seconds + 1)
    sim.settle()
    assert sim.target("qnn").reason is Reason.IMAGE_PULL_FAILED
    assert list(at_work(sim)) == ["rknn"]


def test_a_retry_compiles_all_targets_again_and_takes_over_what_was_done() -> None:
    sim = compiling("rknn", "qnn", qnn=CompilePolicy.REQUIRED)
    turn_to(sim, "rknn")
    sim.succeed(report("rknn", figures=FIGURES))
    sim.settle()
    sim.fail(Reason.COMPILE_FAILED, code=42)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    sim.run = replace(sim.run, retry="again")
    sim.settle()
    assert sorted(at_work(sim)) == ["qnn", "rknn"]
    requests = [sim.requests[job.name] for job in at_work(sim).values()]
    assert {(request.attempt, request.adopt_from) for request in requests} == {(2, None)}
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED


def test_pod_seconds_are_those_of_all_targets() -> None:
    sim = compiling("rknn", "qnn")
    before = sim.stage(Stage.COMPILE).pod_seconds
    for target, seconds in (("rknn", 30), ("qnn", 50)):
        turn_to(sim, target)
        sim.start()
        sim.settle()
        sim.pass_time(seconds)
        sim.succeed(report(target))
        sim.settle()
    assert sim.target("rknn").stage.pod_seconds == 30
    assert sim.stage(Stage.COMPILE).pod_seconds - before == 80


def test_the_events_name_the_target() -> None:
    sim = compiling("rknn", "qnn")
    sim.fail(Reason.STORAGE_UNAVAILABLE)
    sim.settle()
    sim.succeed(report("qnn"))
    sim.settle()
    texts = [event.message for event in sim.events]
    assert any(text.startswith("compile rknn: StorageUnavailable") for text in texts)
    assert "compile qnn: qnn done" in texts


def test_the_status_of_four_targets_with_long_messages_is_bounded() -> None:
    sim = compiling(*ALL)
    long = "x" * 2000
    for target in ALL:
        turn_to(sim, target)
        sim.fail(
            Reason.STORAGE_UNAVAILABLE,
            message=StageResult("compile", 1, Reason.STORAGE_UNAVAILABLE, long).termination_message().decode(),
        )
    sim.settle()
    sim.pass_time(400)
    sim.settle()
    for target in ALL:
        turn_to(sim, target)
        sim.succeed(report(target, figures=FIGURES, compilerVersion=long, chip=long))
    sim.settle()
    status = sim.read()
    assert len(to_json(write_status(status))) <= MAX_STATUS_BYTES
    assert len(status.stage(Stage.COMPILE).outputs) == 12
    assert json.dumps(sim.status).count(long) == 0
