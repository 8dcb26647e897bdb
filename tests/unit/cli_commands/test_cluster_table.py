"""What `atoll status RUN` says of a run as a whole."""

from __future__ import annotations

from typing import Any

from atoll_cli.cluster_runs import run_lines
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Estimate, Phase, RunStatus, StagePhase, StageStatus, Usage, write_status

ESTIMATE = Estimate(840, "0.81 s a step as in run note-1, and 2 min for the other stages")


def lines(status: RunStatus) -> list[str]:
    run: dict[str, Any] = {"metadata": {"name": "note"}, "status": write_status(status)}
    return list(run_lines(run))


def test_before_the_end_the_estimate_stands_with_what_it_rests_on() -> None:
    told = lines(RunStatus(phase=Phase.TRAINING, estimate=ESTIMATE))
    assert told[1:] == ["estimate: 14 min in all (0.81 s a step as in run note-1, and 2 min for the other stages)"]


def test_after_it_what_was_used_stands_beside_it() -> None:
    seconds = {Stage.CONVERT: 40, Stage.TRAIN: 660}
    stages = tuple(StageStatus(stage, phase=StagePhase.SUCCEEDED, pod_seconds=seconds.get(stage, 0)) for stage in Stage)
    usage = Usage(pod_seconds=700, cpu_seconds=1400, gpu_seconds=660)
    told = lines(done(stages, usage))
    assert told[1].startswith("estimate: 14 min")
    assert told[2] == (
        "used: 15 min of active time, 12 min of pods (convert 40 s, train 11 min), 23 min of CPUs, 11 min of GPUs"
    )


def done(stages: tuple[StageStatus, ...], usage: Usage) -> RunStatus:
    return RunStatus(phase=Phase.SUCCEEDED, stages=stages, usage=usage, estimate=ESTIMATE, active_seconds=900)


def test_trouble_is_told_with_the_page_that_says_what_to_do() -> None:
    words = "what to do: docs/troubleshooting.md#datasetmalformed"
    assert words in lines(RunStatus(phase=Phase.FAILED, reason=Reason.DATASET_MALFORMED, message="no archive"))
    waits = RunStatus(phase=Phase.CONVERTING, reason=Reason.SECRET_NOT_FOUND, message='secret "s3" not found')
    assert "what to do: docs/troubleshooting.md#secretnotfound" in lines(waits)
    assert not [line for line in lines(RunStatus(phase=Phase.TRAINING, reason=Reason.RUNNING)) if "what to do" in line]
