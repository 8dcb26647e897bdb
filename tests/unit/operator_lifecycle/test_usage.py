"""A run's usage is the time that its pods ran: each is counted once, failed and stopped attempts too."""

from dataclasses import replace

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_contract.train_spec import Accelerator
from atoll_operator.api.status import Phase, StagePhase, Usage
from atoll_operator.lifecycle.model import PodPhase
from support.run_simulation import PROFILE, RunSimulation, run_view


def work(sim: RunSimulation, seconds: float) -> None:
    """The active Job's pod starts and runs for `seconds`."""
    sim.start()
    sim.settle()
    sim.pass_time(seconds)


def end_pods(sim: RunSimulation) -> None:
    """Sets the end time of finished pods, as a kubelet does."""
    for name, pod in sim.pods.items():
        if pod.is_finished and pod.finished is None:
            sim.pods[name] = replace(pod, finished=sim.now)


def succeed(sim: RunSimulation) -> None:
    sim.succeed()
    end_pods(sim)
    sim.settle()


def test_pods_and_cpus_are_counted_by_stage() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.pass_time(500)  # the pod waits for a node, which is not usage
    work(sim, 100)
    succeed(sim)
    work(sim, 7)
    succeed(sim)
    sim.finish()
    assert [sim.stage(stage).pod_seconds for stage in Stage] == [0, 100, 7, 0, 0]
    assert sim.read().usage == Usage(pod_seconds=107, cpu_seconds=214, gpu_seconds=0)


def test_a_gpu_is_counted_while_it_trains() -> None:
    profile = replace(PROFILE, gpu_offered=True)
    sim = RunSimulation(run=run_view(profile=profile, accelerator=Accelerator.AUTO, gpus=2))
    sim.to_stage(Stage.TRAIN)
    work(sim, 60)
    succeed(sim)
    sim.finish()
    usage = sim.read().usage
    assert usage is not None
    assert usage.gpu_seconds == 120


def test_a_failed_attempt_is_counted_once_and_the_next_one_added() -> None:
    sim = RunSimulation()
    sim.settle()
    work(sim, 30)
    sim.fail(Reason.INTERNAL_ERROR, code=1)
    end_pods(sim)
    sim.settle()
    sim.settle()
    assert sim.stage(Stage.CONVERT).pod_seconds == 30
    sim.pass_time(600)
    sim.settle()
    work(sim, 20)
    succeed(sim)
    assert sim.stage(Stage.CONVERT).attempts == 2
    assert sim.stage(Stage.CONVERT).pod_seconds == 50


def test_every_shard_of_a_conversion_is_counted() -> None:
    sim = RunSimulation()
    sim.settle()
    job = sim.start()
    first = sim.pod_of(job, index=0)
    for index in (1, 2):
        sim.pods[f"shard-{index}"] = replace(first, name=f"shard-{index}", uid=f"shard-{index}", index=index)
    sim.settle()
    sim.pass_time(30)
    sim.pods["shard-1"] = replace(sim.pods["shard-1"], phase=PodPhase.FAILED, finished=sim.now, exit_code=27)
    sim.pass_time(60)
    succeed(sim)
    assert sim.stage(Stage.CONVERT).pod_seconds == 90 + 30 + 90


def test_O41_a_shard_that_dies_beside_a_sidecar_ends_neither_the_stage_nor_its_job() -> None:
    sim = RunSimulation()
    sim.settle()
    job = sim.start()
    first = sim.pod_of(job, index=0)
    sim.pods["shard-1"] = replace(
        first,
        name="shard-1",
        uid="shard-1",
        index=1,
        phase=PodPhase.RUNNING,
        finished=sim.now,
        exit_code=27,
        kept_by_another=True,
    )
    sim.pass_time(60)
    sim.settle()
    assert (sim.stage(Stage.CONVERT).phase, sim.active_job() == job) == (StagePhase.RUNNING, True)


@pytest.mark.parametrize("change", ["suspend", "cancel"])
def test_a_stopped_attempt_is_counted_up_to_its_stop(change: str) -> None:
    sim = RunSimulation()
    sim.settle()
    work(sim, 40)
    sim.run = replace(sim.run, suspend=change == "suspend", cancel=change == "cancel")
    sim.settle()
    sim.pass_time(1000)
    sim.settle()
    assert sim.stage(Stage.CONVERT).pod_seconds == 40


def test_a_manual_retry_keeps_the_earlier_usage() -> None:
    sim = RunSimulation()
    sim.settle()
    work(sim, 11)
    sim.fail(Reason.DATASET_MALFORMED)
    end_pods(sim)
    sim.settle()
    assert sim.read().phase is Phase.FAILED
    sim.run = replace(sim.run, retry="once more")
    sim.settle()
    work(sim, 9)
    succeed(sim)
    sim.finish()
    usage = sim.read().usage
    assert usage is not None
    assert usage.pod_seconds == 20


def test_clocks_that_jump_back_give_no_negative_usage() -> None:
    sim = RunSimulation()
    sim.settle()
    job = sim.start()
    sim.pod_of(job, phase=PodPhase.RUNNING, started=sim.now)
    sim.settle()
    sim.pass_time(-3600)
    sim.run = replace(sim.run, suspend=True)
    sim.settle()
    assert sim.stage(Stage.CONVERT).pod_seconds == 0
