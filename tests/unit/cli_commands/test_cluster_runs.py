"""When a watch of a run ends, what it survives, and what `atoll status` shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from atoll_cli.cluster_access import ClusterAccess, connect
from atoll_cli.cluster_runs import RunWatch, WaitTimeout, is_settled, run_lines, run_view, runs_table
from atoll_cli.options import ClusterOptions
from atoll_contract.errors import Reason, SpecError
from atoll_contract.stage import Stage
from atoll_operator.api.figures import DatasetStatus, Int8Metrics, MetricsStatus
from atoll_operator.api.status import Estimate, Phase, RunStatus, StagePhase, StageStatus, Summary, Usage, parse_time
from atoll_operator.api.status_codec import write_status
from atoll_operator.kube.errors import Unavailable
from support.scripted_api import ScriptedApi

PATH = "/apis/atoll.dev/v1alpha1/namespaces/team/trainingruns/note"
NOW = parse_time("2027-01-09T20:00:00Z")
ESTIMATE = Estimate(840, "0.81 s a step as in run note-1, and 2 min for the other stages")


def run(phase: str, *, uid: str = "u", retry: str | None = None, **status: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "note", "uid": uid, "creationTimestamp": "2027-01-09T19:00:00Z"}
    if retry is not None:
        metadata["annotations"] = {"atoll.dev/retry": retry}
    return {"metadata": metadata, "spec": {}, "status": {"phase": phase, **status}}


@dataclass
class Clock:
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with ScriptedApi() as server:
        yield server


@pytest.fixture
def access(api: ScriptedApi, tmp_path: Path) -> ClusterAccess:
    return connect(ClusterOptions(kubeconfig=str(api.write_kubeconfig(tmp_path / "config"))))


def play(api: ScriptedApi, *answers: tuple[int, Any]) -> None:
    left = list(answers)
    api.answers[PATH] = lambda _: left.pop(0) if len(left) > 1 else left[0]


def watch(access: ClusterAccess, clock: Clock) -> RunWatch:
    return RunWatch(access, "note", clock=lambda: clock.now, sleep=clock.sleep)


def test_the_namespace_is_that_of_the_context(access: ClusterAccess) -> None:
    assert access.namespace == "team"


def test_an_api_server_that_restarts_ends_no_watch(api: ScriptedApi, access: ClusterAccess) -> None:
    play(api, (200, run("Training")), (503, {"message": "starting"}), (200, run("Succeeded")))
    assert [state["status"]["phase"] for state in watch(access, Clock()).states()] == ["Training", "Succeeded"]


def test_an_api_server_that_stays_away_ends_the_watch(api: ScriptedApi, access: ClusterAccess) -> None:
    clock = Clock()
    play(api, (200, run("Training")), (503, {"message": "gone"}))
    with pytest.raises(Unavailable, match="gone"):
        list(watch(access, clock).states())
    assert 180 <= clock.now <= 190


def test_a_deleted_run_ends_the_watch(api: ScriptedApi, access: ClusterAccess) -> None:
    play(api, (200, run("Training")), (404, {"message": "no"}))
    with pytest.raises(SpecError, match="there is no TrainingRun note"):
        list(watch(access, Clock()).states())


def test_a_new_run_of_the_same_name_ends_the_watch(api: ScriptedApi, access: ClusterAccess) -> None:
    play(api, (200, run("Training")), (200, run("Succeeded", uid="other")))
    with pytest.raises(SpecError, match="another made under its name"):
        list(watch(access, Clock()).states())


def test_the_watch_ends_after_the_timeout(api: ScriptedApi, access: ClusterAccess) -> None:
    clock = Clock()
    play(api, (200, run("Training")))
    with pytest.raises(WaitTimeout):
        list(watch(access, clock).states(timeout=60))
    assert clock.now == 60


@pytest.mark.parametrize(
    ("body", "settled"),
    [
        (run("Training"), False),
        ({"metadata": {"name": "note"}, "spec": {}}, False),
        (run("Succeeded", retry="late"), True),
        (run("Cancelled", retry="late"), True),
        (run("Failed"), True),
        (run("Failed", retry="1"), False),
        (run("Failed", retry="1", lastHandledRetry="1"), True),
        (run("Failed", retry="2", lastHandledRetry="1"), False),
    ],
)
def test_when_a_run_has_ended_for_good(body: dict[str, Any], settled: bool) -> None:
    assert is_settled(body) is settled


def shown(item: Any) -> str:
    console = Console(width=140, color_system=None)
    with console.capture() as capture:
        console.print(item)
    return capture.get()


def test_a_running_stage_is_shown_with_its_figures() -> None:
    stages = [
        {
            "name": "convert",
            "phase": "Succeeded",
            "attempts": 1,
            "message": "110 pictures [note]",
            "startTime": "2027-01-09T19:58:00Z",
            "completionTime": "2027-01-09T19:58:40Z",
        },
        {"name": "train", "phase": "Running", "attempts": 2, "startTime": "2027-01-09T19:59:00Z"},
    ]
    progress = {
        "percent": 45,
        "display": "45%",
        "stage": "train",
        "step": 450,
        "totalSteps": 1000,
        "loss": "0.61",
        "etaSeconds": 600,
    }
    text = shown(run_view(run("Training", stages=stages, progress=progress, message="training"), now=NOW))
    assert "step 450/1000, loss 0.61, about 10 min left" in text
    assert "110 pictures [note]" in text
    assert "40 s" in text
    assert "60 s" in text
    assert "note: Training 45%: training" in text


def test_a_queued_run_shows_its_position() -> None:
    text = shown(run_view(run("Queued", queue={"ahead": 2, "etaSeconds": 2100}), now=NOW))
    assert "queue: 2 ahead, about 35 min" in text


def test_the_list_has_the_columns_of_kubectl() -> None:
    bodies = [run("Succeeded", reason="Completed", summary={"ap50": "0.88", "tpu": "98%", "release": "note-v3"})]
    header, row = shown(runs_table(bodies, now=NOW)).splitlines()
    assert header.split() == ["NAME", "PHASE", "REASON", "PROGRESS", "AP50", "TARGETS", "RELEASE", "AGE"]
    assert row.split() == ["note", "Succeeded", "Completed", "0.88", "98%", "note-v3", "60", "min"]


def test_the_list_has_more_columns_where_they_are_asked_for() -> None:
    bodies = [run("Failed", reason="NoUsableExamples", message="no picture has a box")]
    bodies[0]["metadata"]["namespace"] = "team"
    header, row = shown(runs_table(bodies, now=NOW, namespaces=True, wide=True)).splitlines()
    assert header.split()[0] == "NAMESPACE"
    assert header.split()[-1] == "MESSAGE"
    assert row.split()[:2] == ["team", "note"]
    assert row.endswith("no picture has a box")


def test_a_status_that_no_operator_wrote_is_a_sentence() -> None:
    with pytest.raises(SpecError, match="the status of run note cannot be read"):
        is_settled(run("Training", stages=7))


def lines(status: RunStatus) -> list[str]:
    run: dict[str, Any] = {"metadata": {"name": "note"}, "status": write_status(status)}
    return list(run_lines(run))


INT8 = Int8Metrics("0.768", "0.36", "0.592", "0.921")


def test_ap50_is_shown_with_its_pictures_and_its_interval() -> None:
    summary = Summary(ap50="0.77", tpu="98%")
    status = RunStatus(
        phase=Phase.SUCCEEDED, summary=summary, metrics=MetricsStatus(int8=INT8, pictures=32, split="test")
    )
    assert lines(status)[1:] == ["AP50 0.768 (32 pictures: .59–.92), TPU 98%"]


def test_a_figure_of_pictures_that_chose_the_step_is_said_to_flatter() -> None:
    metrics = MetricsStatus(int8=INT8, pictures=32, split="validation")
    shown_lines = lines(RunStatus(phase=Phase.SUCCEEDED, summary=Summary(ap50="0.77"), metrics=metrics))
    assert shown_lines[2].startswith("AP50 is of the validation part, which also chose the step and the threshold")


def test_a_status_of_an_older_version_has_the_figure_alone() -> None:
    metrics = MetricsStatus(int8=Int8Metrics("0.768", "0.36"))
    assert lines(RunStatus(phase=Phase.SUCCEEDED, summary=Summary(ap50="0.77", tpu="98%"), metrics=metrics))[1:] == [
        "AP50 0.768, TPU 98%"
    ]
    assert lines(RunStatus(phase=Phase.SUCCEEDED, summary=Summary(ap50="0.77")))[1:] == ["AP50 0.77, TPU unknown"]


def test_a_run_that_has_not_ended_shows_its_estimate_and_the_basis() -> None:
    shown_lines = lines(RunStatus(phase=Phase.TRAINING, estimate=ESTIMATE))
    assert shown_lines[1:] == [
        "estimate: 14 min in all (0.81 s a step as in run note-1, and 2 min for the other stages)"
    ]


def test_a_run_that_has_ended_shows_what_it_used_beside_the_estimate() -> None:
    seconds = {Stage.CONVERT: 40, Stage.TRAIN: 660}
    stages = tuple(StageStatus(stage, phase=StagePhase.SUCCEEDED, pod_seconds=seconds.get(stage, 0)) for stage in Stage)
    usage = Usage(pod_seconds=700, cpu_seconds=1400, gpu_seconds=660)
    shown_lines = lines(done(stages, usage))
    assert shown_lines[1].startswith("estimate: 14 min")
    assert shown_lines[2] == (
        "used: 15 min of active time, 12 min of pods (convert 40 s, train 11 min), 23 min of CPUs, 11 min of GPUs"
    )


def test_active_time_that_a_retry_began_anew_is_told_from_that_of_the_pods() -> None:
    stages = (StageStatus(Stage.TRAIN, phase=StagePhase.SUCCEEDED, pod_seconds=1800),)
    status = RunStatus(
        phase=Phase.SUCCEEDED,
        stages=stages,
        usage=Usage(pod_seconds=1800),
        active_seconds=900,
        last_handled_retry="2026-11-29T20:00:00Z",
    )
    assert lines(status)[-1] == "used: 15 min of active time (a retry begins it anew), 30 min of pods (train 30 min)"


def done(stages: tuple[StageStatus, ...], usage: Usage) -> RunStatus:
    return RunStatus(phase=Phase.SUCCEEDED, stages=stages, usage=usage, estimate=ESTIMATE, active_seconds=900)


def test_what_was_left_out_of_the_data_is_shown() -> None:
    status = RunStatus(dataset=DatasetStatus(digest="", warnings=("2 pictures were left out",)))
    assert "warning: 2 pictures were left out" in lines(status)


def test_pages_are_urls_where_the_environment_says_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOLL_DOCS_URL", "https://atoll.example/docs/")
    data = DatasetStatus(digest="", warnings=("1 box empty (left out); see docs/data.md#box-empty",))
    shown = lines(RunStatus(phase=Phase.FAILED, reason=Reason.DATASET_MALFORMED, message="no archive", dataset=data))
    assert "what to do: https://atoll.example/docs/troubleshooting/#datasetmalformed" in shown
    assert "warning: 1 box empty (left out); see https://atoll.example/docs/data/#box-empty" in shown


def test_a_problem_is_shown_with_the_command_that_says_what_to_do() -> None:
    advice = "what to do: atoll help datasetmalformed"
    assert advice in lines(RunStatus(phase=Phase.FAILED, reason=Reason.DATASET_MALFORMED, message="no archive"))
    waits = RunStatus(phase=Phase.CONVERTING, reason=Reason.SECRET_NOT_FOUND, message='secret "s3" not found')
    assert "what to do: atoll help secretnotfound" in lines(waits)
    assert not [line for line in lines(RunStatus(phase=Phase.TRAINING, reason=Reason.RUNNING)) if "what to do" in line]
