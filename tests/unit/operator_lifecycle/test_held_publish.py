"""`spec.holdPublish`: a run stops when its model is measured; and the learning curve that tells how it got there."""

from dataclasses import replace

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact, Progress, StageResult
from atoll_operator.api.status import MAX_CURVE_POINTS, CurvePoint, Phase
from support.run_simulation import RunSimulation, outputs_of, run_view


def until_held() -> RunSimulation:
    sim = RunSimulation(run=run_view(hold_publish=True))
    for _ in range(3):
        sim.settle()
        sim.succeed()
    sim.settle()
    return sim


def test_a_held_run_stops_when_its_model_is_measured() -> None:
    sim = until_held()
    status = sim.read()
    assert (status.phase, status.reason) == (Phase.SUSPENDED, Reason.SUSPENDED)
    assert "set it to false" in status.message
    assert status.metrics is not None
    assert status.metrics.int8.ap50 == "0.88"
    assert (status.stage(Stage.COMPILE).attempts, status.stage(Stage.PUBLISH).attempts) == (0, 0)
    assert sim.releases == {}
    before = sim.state()
    sim.pass_time(10**6)
    sim.settle()
    assert sim.state() == before


def test_it_publishes_once_it_is_let_go() -> None:
    sim = until_held()
    sim.run = replace(sim.run, hold_publish=False, generation=2)
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    assert sim.published == {1}


def test_a_held_run_can_be_cancelled_and_keeps_its_figures() -> None:
    sim = until_held()
    sim.run = replace(sim.run, cancel=True, generation=2)
    sim.settle()
    status = sim.read()
    assert status.phase is Phase.CANCELLED
    assert status.stage(Stage.EXPORT).phase == "Succeeded"
    assert sim.releases == {}


def test_a_hold_that_comes_too_late_does_not_stop_the_publication() -> None:
    sim = RunSimulation()
    for _ in range(3):
        sim.settle()
        sim.succeed()
    sim.settle()
    sim.run = replace(sim.run, hold_publish=True, generation=2)
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED


def test_the_curve_has_the_steps_at_which_it_became_better() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    job = sim.start()
    for step, best, ap50 in ((90, None, None), (110, 100, 0.31), (150, 100, 0.31), (210, 200, 0.4507)):
        sim.pass_time(40)
        sim.pod_of(job, progress=Progress(percent=1, step=step, total_steps=400, ap50=ap50, best_step=best))
        sim.settle()
    assert sim.read().learning_curve == (CurvePoint(100, "0.3100"), CurvePoint(200, "0.4507"))
    # The last improvement came after the last line that was read; the result has it.
    summary = {"bestStep": 400, "ap50": 0.5}
    outputs: tuple[Artifact, ...] = outputs_of(Stage.TRAIN)
    result = StageResult(Stage.TRAIN, 1, Reason.COMPLETED, "trained", outputs, summary)
    sim.succeed(result.termination_message().decode())
    sim.settle()
    curve = sim.read().learning_curve
    assert curve is not None
    assert curve[-1] == CurvePoint(400, "0.5000")


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    status = RunSimulation().decide().status
    for step in range(1, 200):
        status = status.with_curve_point(step, step / 200)
    assert status.learning_curve is not None
    assert len(status.learning_curve) <= MAX_CURVE_POINTS
    assert status.learning_curve[-1] == CurvePoint(199, "0.9950")
    assert status.learning_curve == tuple(sorted(status.learning_curve, key=lambda point: point.step))


def test_O28_a_point_that_is_none_is_left_out() -> None:
    status = RunSimulation().decide().status
    for step, ap50 in ((None, 0.5), (10, None), (10, float("nan")), (10, 7.0), (2**40, 0.5), (-1, 0.5), (0, 0.5)):
        assert status.with_curve_point(step, ap50).learning_curve is None
