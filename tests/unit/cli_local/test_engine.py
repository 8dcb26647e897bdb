"""The local engine with real processes, on stages that do no work."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll_cli.local.engine import Engine
from atoll_cli.local.launch import launch
from atoll_cli.local.result import RunResult
from atoll_cli.local.state import RunRecord
from atoll_cli.local_runs import LocalRuns
from atoll_contract.document import replace
from atoll_contract.errors import Reason, SpecError
from atoll_contract.files import file_sha256
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase, StagePhase
from support.noop_run import RUN, NoopRun, noop_command
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def noop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NoopRun]:
    """A run whose processes are all gone afterwards."""
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    run = NoopRun(tmp_path)
    yield run
    wait_until(lambda: not run.processes(), what="the end of every process of the run", timeout_seconds=60)


def in_background(noop: NoopRun) -> tuple[Callable[[], Engine], Callable[[], RunResult]]:
    """Launch in a thread: functions that wait for the engine and for the result."""
    engines: list[Engine] = []
    results: list[RunResult] = []

    def go() -> None:
        results.append(launch(noop.request(), observer=noop.display, on_start=engines.append, command=noop_command))

    thread = threading.Thread(target=go)
    thread.start()

    def engine() -> Engine:
        wait_until(lambda: engines, what="the engine", timeout_seconds=60)
        return engines[0]

    def result() -> RunResult:
        thread.join(timeout=200)
        return results[0]

    return engine, result


def test_O36_the_engine_hands_down_which_stages_are_done_anew(noop: NoopRun, monkeypatch: pytest.MonkeyPatch) -> None:
    noop.plan(export={"fail": "QualityGateFailed", "times": 1})
    assert noop.launch().status.phase is Phase.FAILED

    def from_convert(file: object, known: RunRecord, observer: object) -> RunRecord:
        return replace(known, retry="again:convert")

    monkeypatch.setattr("atoll_cli.local.launch._continued", from_convert)
    result = noop.launch()
    assert result.status.phase is Phase.SUCCEEDED
    assert noop.calls() == ["convert", "train", "export", "convert", "train", "export", "publish"]
    assert [noop.given(stage).get("adoptFrom") for stage in ("convert", "train", "export", "publish")] == [
        2,
        2,
        2,
        None,
    ]


def test_a_run_goes_through_its_stages_and_is_recalled_afterwards(noop: NoopRun) -> None:
    result = noop.launch()
    assert result.status.phase is Phase.SUCCEEDED
    assert noop.calls() == ["convert", "train", "export", "publish"]
    assert noop.manifests() == ["v1"]
    assert result.status.stage(Stage.COMPILE).reason is Reason.COMPILER_UNAVAILABLE
    document = dict(result.document)
    assert document["metrics"]["int8"]["perClass"] == {"red": 0.88}
    assert Path(document["bundle"]).is_file()
    assert Path(document["report"]).is_file()
    written = json.loads((noop.store / "results/noop/result.json").read_text())
    assert written == document

    again = noop.launch()
    assert again.recalled
    assert noop.calls() == ["convert", "train", "export", "publish"]
    assert again.document["release"] == "noop-v1"

    noop.file.write_text(RUN.replace("name: noop }\nspec:", "name: noop }\nspec:\n  training: { steps: 7 }"))
    with pytest.raises(SpecError, match="--rerun"):
        noop.launch()

    anew = noop.launch(rerun=True)
    assert anew.status.phase is Phase.SUCCEEDED
    assert noop.manifests() == ["v1", "v2"]


def test_targets_are_compiled_side_by_side_and_one_that_fails_leaves_the_others(noop: NoopRun) -> None:
    targets = "compile: [{ target: edgetpu }, { target: rknn }, { target: qnn }]"
    noop.file.write_text(RUN.replace("name: noop }\nspec:", f"name: noop }}\nspec:\n  {targets}"))
    plan: dict[str, Any] = {"fail": "CompileFailed", "times": 1}
    noop.plan(**{"compile-qnn": plan, "compile-rknn": {"steps": 3, "seconds": 0.1}})
    result = noop.launch()
    assert result.status.phase is Phase.SUCCEEDED
    assert sorted(noop.calls()) == ["compile-qnn", "compile-rknn", "convert", "export", "publish", "train"]
    assert noop.calls()[-1] == "publish"
    assert result.status.summary.targets == "edgetpu no compiler, rknn 98%, qnn refused"
    assert [item["name"] for item in noop.given("publish")["upstream"]["compile"]] == ["rknn.compiled"]
    assert noop.given("export")["export"]["forTargets"] is True
    assert (noop.given("compile-rknn")["target"], noop.given("compile-rknn")["compile"]["target"]) == ("rknn", "rknn")


def test_an_engine_that_was_killed_goes_on_with_the_targets_that_are_left(noop: NoopRun) -> None:
    targets = "compile: [{ target: qnn }, { target: rknn }]"
    noop.file.write_text(RUN.replace("name: noop }\nspec:", f"name: noop }}\nspec:\n  {targets}"))
    noop.plan(**{"compile-rknn": {"steps": 600, "seconds": 0.1}})

    def is_qnn_recorded() -> bool:
        path = noop.store / ".atoll/engine/local/noop/run.json"
        entries = json.loads(path.read_text()).get("status", {}).get("compile", []) if path.is_file() else []
        parts = {item["target"]: item.get("stage", {}).get("phase") for item in entries}
        return parts.get("qnn") == "Succeeded" and "compile-rknn" in noop.calls()

    with noop.start() as process:
        wait_until(is_qnn_recorded, what="one target to end and the other to begin", timeout_seconds=120)
        process.kill()
    noop.plan()
    result = noop.launch()
    assert result.status.phase is Phase.SUCCEEDED
    assert result.status.summary.targets == "qnn 98%, rknn 98%"
    assert noop.calls().count("compile-qnn") == 1
    assert noop.calls().count("compile-rknn") == 2


def test_a_second_run_takes_old_and_new_images_and_starts_from_the_release(noop: NoopRun) -> None:
    assert noop.launch().document["release"] == "noop-v1"
    start = "training: { initFrom: { type: release, releaseRef: { name: noop-v1 } } }"
    old, new = "datasets/local/pictures.tar", "datasets/local/harvest-20270109.tar"
    second = RUN.replace("name: noop }\nspec:", f"name: second }}\nspec:\n  {start}")
    noop.file.write_text(second.replace(f"[{{ key: {old} }}]", f"[{{ key: {old} }}, {{ key: {new} }}]"))
    result = noop.launch()
    assert result.document["release"] == "noop-v2"
    assert [source["key"] for source in noop.given("convert")["convert"]["sources"]] == [old, new]
    manifest = noop.store / "models/local/noop/v1/manifest.json"
    assert noop.given("train")["train"]["initFrom"] == {
        "type": "release",
        "key": "models/local/noop/v1/manifest.json",
        "sha256": file_sha256(manifest),
    }


def test_a_transient_failure_is_retried(noop: NoopRun) -> None:
    noop.plan(convert={"fail": "InternalError", "times": 1})
    result = noop.launch()
    assert result.status.phase is Phase.SUCCEEDED
    convert = result.status.stage(Stage.CONVERT)
    assert (convert.attempts, convert.failures) == (2, 1)


def test_a_failed_run_continues_when_it_is_started_again(noop: NoopRun) -> None:
    noop.plan(train={"fail": "TrainingDiverged", "times": 1})
    result = noop.launch()
    assert result.status.phase is Phase.FAILED
    assert result.status.reason is Reason.TRAINING_DIVERGED
    assert noop.calls() == ["convert", "train"]
    again = noop.launch()
    assert again.status.phase is Phase.SUCCEEDED
    assert noop.calls() == ["convert", "train", "train", "export", "publish"]
    assert any("trying again" in line for line in noop.display.lines)


def test_a_suspended_run_resumes_from_its_checkpoint(noop: NoopRun) -> None:
    noop.plan(train={"steps": 1000, "seconds": 0.01})
    engine, result = in_background(noop)
    wait_until(lambda: any("train: attempt" in line for line in noop.display.lines), what="train", timeout_seconds=60)
    step = next(iter((noop.store / "runs/local").glob("*/train/checkpoints/step")), None)
    checkpoints = noop.store / "runs/local"
    wait_until(lambda: list(checkpoints.glob("*/train/checkpoints/step")), what="a checkpoint", timeout_seconds=60)
    engine().suspend()
    suspended = result()
    assert suspended.status.phase is Phase.SUSPENDED
    assert not noop.processes()
    step = next(iter(checkpoints.glob("*/train/checkpoints/step")))
    assert 0 < int(step.read_text()) < 1000
    step.write_text("999")
    ended = noop.launch()
    assert ended.status.phase is Phase.SUCCEEDED
    train = ended.status.stage(Stage.TRAIN)
    assert (train.attempts, train.failures) == (2, 0)


def test_a_cancel_request_ends_the_run(noop: NoopRun) -> None:
    noop.plan(train={"steps": 100000, "seconds": 0.01})
    _, result = in_background(noop)
    wait_until(lambda: "train" in noop.calls(), what="train", timeout_seconds=60)
    (noop.store / ".atoll/engine/local/noop/cancel").touch()
    ended = result()
    assert ended.status.phase is Phase.CANCELLED
    assert ended.status.stage(Stage.TRAIN).phase is StagePhase.FAILED
    assert noop.launch().recalled


def test_a_second_engine_is_refused(noop: NoopRun) -> None:
    noop.plan(train={"steps": 100000, "seconds": 0.01})
    engine, result = in_background(noop)
    engine()
    with pytest.raises(SpecError, match=r"at work in .* already \(process \d+\)"):
        noop.launch()
    engine().suspend()
    assert result().status.phase is Phase.SUSPENDED


def test_the_deadline_ends_a_stage(noop: NoopRun) -> None:
    noop.file.write_text(RUN + "  runPolicy: { activeDeadlineSeconds: 60 }\n")
    noop.plan(train={"steps": 100000, "seconds": 0.05})
    request = noop.request()
    policy = replace(request.file.spec.run_policy, active_deadline_seconds=1)
    file = replace(request.file, spec=replace(request.file.spec, run_policy=policy))
    result = launch(replace(request, file=file), observer=noop.display, command=noop_command)
    assert result.status.reason is Reason.DEADLINE_EXCEEDED
    assert result.status.phase is Phase.FAILED


def test_versions_in_the_store_are_not_used_again(noop: NoopRun) -> None:
    for version in (1, 7):
        path = noop.store / f"models/local/noop/v{version}/manifest.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    result = noop.launch()
    assert result.document["release"] == "noop-v8"
    assert noop.manifests() == ["v1", "v7", "v8"]


def test_a_version_that_is_taken_meanwhile_is_skipped(noop: NoopRun) -> None:
    noop.plan(publish={"steps": 60, "seconds": 0.05})
    _, result = in_background(noop)
    wait_until(lambda: "publish" in noop.calls(), what="publish", timeout_seconds=100)
    taken = noop.store / "models/local/noop/v1/manifest.json"
    taken.parent.mkdir(parents=True)
    taken.write_text("{}")
    ended = result()
    assert ended.document["release"] == "noop-v2"
    assert noop.manifests() == ["v1", "v2"]
    assert taken.read_text() == "{}"
    assert ended.status.stage(Stage.PUBLISH).failures == 0


def test_a_held_run_waits_until_its_file_lets_it_publish(noop: NoopRun) -> None:
    held = RUN.replace("spec:", "spec:\n  holdPublish: true")
    noop.file.write_text(held)
    status = noop.launch().status
    assert status.phase is Phase.SUSPENDED
    assert "set it to false to go on" in status.message
    assert noop.calls() == ["convert", "train", "export"]
    assert noop.manifests() == []
    (shown,) = LocalRuns(noop.store).runs()
    assert shown["status"]["message"] == status.message
    noop.file.write_text(RUN)
    assert noop.launch().status.phase is Phase.SUCCEEDED
    assert noop.calls() == ["convert", "train", "export", "publish"]
    assert noop.manifests() == ["v1"]
