"""A run's usage is the time that its pods ran: each is counted once, failed and stopped attempts too."""

from dataclasses import replace

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Accelerator, Stage
from atoll_operator.api.status import Phase, Usage
from atoll_operator.lifecycle.model import PodPhase
from support.decide_world import PROFILE, World, run_view


def work(world: World, seconds: float) -> None:
    """The active Job's pod starts and runs for `seconds`."""
    world.start()
    world.settle()
    world.pass_time(seconds)


def end_pods(world: World) -> None:
    """Sets the end time of finished pods, as a kubelet does."""
    for name, pod in world.pods.items():
        if pod.is_finished and pod.finished is None:
            world.pods[name] = replace(pod, finished=world.now)


def succeed(world: World) -> None:
    world.succeed()
    end_pods(world)
    world.settle()


def test_pods_and_cpus_are_counted_by_stage() -> None:
    world = World()
    world.to_stage(Stage.TRAIN)
    world.pass_time(500)  # the pod waits for a node, which is not usage
    work(world, 100)
    succeed(world)
    work(world, 7)
    succeed(world)
    world.finish()
    assert [world.stage(stage).pod_seconds for stage in Stage] == [0, 100, 7, 0, 0]
    assert world.read().usage == Usage(pod_seconds=107, cpu_seconds=214, gpu_seconds=0)


def test_a_gpu_is_counted_while_it_trains() -> None:
    profile = replace(PROFILE, gpu_offered=True)
    world = World(run=run_view(profile=profile, accelerator=Accelerator.AUTO, gpus=2))
    world.to_stage(Stage.TRAIN)
    work(world, 60)
    succeed(world)
    world.finish()
    usage = world.read().usage
    assert usage is not None
    assert usage.gpu_seconds == 120


def test_a_failed_attempt_is_counted_once_and_the_next_one_added() -> None:
    world = World()
    world.settle()
    work(world, 30)
    world.fail(Reason.INTERNAL_ERROR, code=1)
    end_pods(world)
    world.settle()
    world.settle()
    assert world.stage(Stage.CONVERT).pod_seconds == 30
    world.pass_time(600)
    world.settle()
    work(world, 20)
    succeed(world)
    assert world.stage(Stage.CONVERT).attempts == 2
    assert world.stage(Stage.CONVERT).pod_seconds == 50


@pytest.mark.parametrize("change", ["suspend", "cancel"])
def test_a_stopped_attempt_is_counted_up_to_its_stop(change: str) -> None:
    world = World()
    world.settle()
    work(world, 40)
    world.run = replace(world.run, suspend=change == "suspend", cancel=change == "cancel")
    world.settle()
    world.pass_time(1000)
    world.settle()
    assert world.stage(Stage.CONVERT).pod_seconds == 40


def test_a_manual_retry_keeps_the_earlier_usage() -> None:
    world = World()
    world.settle()
    work(world, 11)
    world.fail(Reason.DATASET_MALFORMED)
    end_pods(world)
    world.settle()
    assert world.read().phase is Phase.FAILED
    world.run = replace(world.run, retry="once more")
    world.settle()
    work(world, 9)
    succeed(world)
    world.finish()
    usage = world.read().usage
    assert usage is not None
    assert usage.pod_seconds == 20


def test_clocks_that_jump_back_give_no_negative_usage() -> None:
    world = World()
    world.settle()
    job = world.start()
    world.pod_of(job, phase=PodPhase.RUNNING, started=world.now)
    world.settle()
    world.pass_time(-3600)
    world.run = replace(world.run, suspend=True)
    world.settle()
    assert world.stage(Stage.CONVERT).pod_seconds == 0
