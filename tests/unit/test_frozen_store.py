"""What commit 8c7468f has left, in a store, on a device and on a cluster, is read and gone on with.

`tests/golden/frozen/store-8c7468f` is what three runs of `atoll run` left: `note` succeeded, `strict` failed at its
quality gate, `half` was suspended in training. convert and publish were the real stages, train and export small ones
that write the real files with little in them. No file is left out but locks and the engine's process id. Where a file
named the store's folder it says `{store}` now; `identities.json` is what each run's `identity` is the sha256 of.

`device-8c7468f` is the folder of a device that serves that release, and `trainingrun-8c7468f.yaml` three runs, a
profile's snapshot and a release as a cluster keeps them. That commit's code wrote both, but no agent and no cluster was
at work: the statuses come from `decide` in the small sim of `support.run_simulation`.

These files are never written anew: others are added beside them.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from atoll_cli.main import main
from atoll_contract import keys
from atoll_contract.dataset import Dataset
from atoll_contract.document import from_json, to_json
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_contract.stage_result import parse_line, parse_result
from atoll_contract.store.directory import DirStore
from atoll_contract.train_spec import Architecture
from atoll_edge.models.release_store import ReleaseStore
from atoll_operator.api.decode import training_profile, training_run
from atoll_operator.api.status import Phase
from atoll_operator.api.status_codec import read_status
from atoll_operator.api.validation import check
from atoll_operator.controller.profile_snapshots import read_snapshot
from atoll_operator.jobs.manifest import job_name
from atoll_operator.lifecycle.inputs import own_release, profile_view, run_view
from atoll_operator.lifecycle.model import JobState, JobView, ReleaseView
from atoll_stages.train.checkpoints import CheckpointStore
from atoll_stages.train.initial_weights import ExpectedWeights, ModelInfo, read_weights
from support.noop_run import NoopRun
from support.polling import wait_until
from support.run_simulation import UID, RunSimulation, success

FROZEN = Path(__file__).parents[1] / "golden/frozen"
KEPT = FROZEN / "store-8c7468f"
DAY = 86400

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store in a folder of its own, as if its runs had been made there 40 days ago."""
    folder = tmp_path / "store"
    shutil.copytree(KEPT / "atoll-store", folder)
    then = (datetime.now(UTC) - timedelta(days=40)).date().isoformat()
    for name, known in json.loads((KEPT / "identities.json").read_text(encoding="utf-8")).items():
        record = folder / f".atoll/engine/local/{name}/run.json"
        document = json.loads(record.read_text(encoding="utf-8").replace("2026-11-29T", f"{then}T"))
        document["identity"] = hashlib.sha256(canonical(placed(known, folder))).hexdigest()
        record.write_bytes(canonical(document))
    result = folder / "results/note/result.json"
    result.write_text(json.dumps(placed(json.loads(result.read_bytes()), folder)))
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 40 * DAY,) * 2)
    return folder


@pytest.fixture
def archive(tmp_path: Path, store: Path) -> Path:
    return shutil.copyfile(store / "datasets/local/pictures.tar", tmp_path / "pictures.tar")


# The store.


def test_a_run_that_has_ended_is_shown_and_not_run_again(
    store: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(store)
    command = ["run", "-f", str(KEPT / "note.yaml"), "--store", str(store), "--data", str(archive)]
    assert main([*command, "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    kept = json.loads(before["results/note/result.json"])
    for document in (shown, kept):
        # To the tenth of a second while it works, afterwards by the status, which knows whole ones.
        for stage in document["stages"]:
            stage.pop("seconds", None)
    assert shown == kept
    assert main(command) == 0
    assert "run note has ended before; --rerun starts it anew" in capsys.readouterr().out
    after = contents(store)
    assert {name for name in after if not name.startswith(".atoll/engine/local/note/")} == {
        name for name in before if not name.startswith(".atoll/engine/local/note/")
    }
    same = [name for name in before if name.startswith((".atoll/", "runs/", "models/", "blobs/", "cache/"))]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


def test_the_releases_are_listed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["releases", "--store", str(store), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "release": "note-v1",
            "model": "note",
            "version": 1,
            "channels": ["stable"],
            "ap50": 0.9,
            "tpu": "not compiled",
            "labels": ["note", "robot"],
            "createdAt": "2026-11-29T04:31:42Z",
            "run": "note",
        }
    ]


def test_the_report_is_found(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "note", "--store", str(store), "--no-open"]) == 0
    assert capsys.readouterr().out == f"{store / 'results/note/report.html'}\n"


def test_a_release_is_fetched_by_its_signature(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "fetched"
    command = ["pull", "note-v1", "--store", str(store), "--all", "--public-key", str(KEPT / "key.pem.pub")]
    assert main([*command, "--to", str(target)]) == 0
    fetched = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in target.iterdir()}
    manifest = json.loads((store / "models/local/note/v1/manifest.json").read_bytes())
    assert fetched == {file["name"]: file["sha256"] for file in manifest["files"]}


def test_what_nobody_needs_is_listed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(store)
    assert main(["prune", "--store", str(store), "--older-than", "30d", "-o", "json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [(item["kind"], item["name"], item["files"], item["removed"]) for item in groups] == [
        ("run", "runs/local/8d3c91b1-1bdc-42e9-a3b1-73212d5d27b9/", 16, False),
        ("run", "runs/local/f4f6395c-11ab-4bf3-a011-473c22518501/", 16, False),
    ]
    assert contents(store) == before


def test_a_suspended_run_goes_on_in_the_middle_of_training(continued: NoopRun, archive: Path) -> None:
    continued.file.write_text((KEPT / "half.yaml").read_text(encoding="utf-8"))
    continued.plan(train={"steps": 6})
    outcome = continued.launch(data=(archive,))
    assert outcome.status.phase is Phase.SUCCEEDED
    assert continued.calls() == ["train", "export", "publish"]
    given = continued.given("train")
    assert given["attempt"] == 2
    assert [item["name"] for item in given["upstream"]["convert"]] == ["dataset", "labels"]
    # As the checkpoint has it.
    steps = int((KEPT / f"atoll-store/runs/local/{given['run']['uid']}/train/checkpoints/step").read_text())
    assert 0 < steps < 6
    job = job_name("half", given["run"]["uid"], Stage.TRAIN, 2)
    output = (outcome.folder.jobs / job / "train-2.log").read_text(encoding="utf-8")
    assert [item.step for line in output.splitlines() if (item := parse_line(line))] == list(range(steps + 1, 7))
    assert outcome.document["release"] == "note-v2"


def test_a_run_that_failed_is_tried_again_from_the_stage_that_failed(continued: NoopRun, archive: Path) -> None:
    continued.file.write_text((KEPT / "strict.yaml").read_text(encoding="utf-8"))
    outcome = continued.launch(data=(archive,))
    assert outcome.status.phase is Phase.SUCCEEDED
    assert continued.calls() == ["export", "publish"]
    assert [item["name"] for item in continued.given("export")["upstream"]["train"]] == ["weights", "history"]
    assert outcome.document["release"] == "note-v2"


@pytest.fixture
def continued(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NoopRun]:
    """A run on the store, with stages that do no work; its processes are all gone afterwards."""
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    run = NoopRun(tmp_path)
    assert run.store == store
    yield run
    wait_until(lambda: not run.processes(), what="the end of every process of the run", timeout_seconds=60)


def test_the_documents_of_the_store_are_written_again_as_they_are(store: Path) -> None:
    datasets, results = (
        list(store.glob("cache/*/datasets/*/dataset.json")),
        list(store.glob("runs/*/*/*/*/result.json")),
    )
    assert len(datasets) == 1
    assert len(results) == 8
    for path in datasets:
        assert to_json(from_json(Dataset, path.read_bytes())) == path.read_bytes()
    for path in results:
        assert to_json(parse_result(path.read_bytes())) == path.read_bytes()


def test_weights_and_checkpoints_are_read(store: Path, tmp_path: Path) -> None:
    folder = next(store.glob("runs/local/*/train/checkpoints/step-00000100.npz")).parent
    small = ModelInfo(Architecture.FPNLITE_192, 0.35, ("note", "robot"))
    expected = ExpectedWeights(small, {"head/kernel": (2, 3)})
    values, info = read_weights(folder / "best-00000100.weights.h5", expected)
    assert values["head/kernel"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert json.loads(to_json(info)) == {
        "architecture": "ssd-mobilenet-v2-fpnlite-192",
        "width": 0.35,
        "classes": ["note", "robot"],
        "step": 100,
    }
    run = RunRef("local", "strict", folder.parts[-3])
    variable: Any = Variable()
    checkpoints = CheckpointStore(DirStore(store), keys.checkpoints_prefix(run), "f" * 64)
    progression = checkpoints.restore([variable], work=tmp_path)
    assert variable.value.tolist() == [0, 1, 2, 3]
    assert progression is not None
    assert (progression.step, len(progression.history)) == (100, 2)


class Variable:
    """As TensorFlow's: four numbers."""

    shape = (4,)

    def __init__(self) -> None:
        self.value = np.zeros(4)

    def assign(self, value: Any) -> None:
        self.value = value


# The device.


def test_a_device_serves_what_it_served(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(FROZEN / "device-8c7468f", folder)
    device = ReleaseStore(folder)
    device.lock()
    try:
        state = device.read()
        assert to_json(state) == (folder / "state.json").read_bytes()
        assert state.current is not None
        manifest = device.check(state.current)
        assert (manifest.release, manifest.labels, manifest.thresholds) == ("note-v1", ("note", "robot"), (0.42, 0.5))
    finally:
        device.unlock()


# The cluster.


def on_cluster(kind: str, name: str) -> dict[str, Any]:
    objects = yaml.safe_load_all((FROZEN / "trainingrun-8c7468f.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = next(
        item for item in objects if item["kind"] == kind and name in (item["metadata"]["name"], "")
    )
    return found


def sim(name: str) -> RunSimulation:
    """A run with its status, the profile from its snapshot, and its release, as the operator reads them."""
    document = on_cluster("TrainingRun", name)
    snapshot = read_snapshot(on_cluster("ControllerRevision", ""))
    assert snapshot is not None
    profile = profile_view(
        snapshot.profile,
        training_profile(snapshot.document),
        revision=snapshot.revision,
        digest=snapshot.digest,
        gpu_offered=False,
    )
    run = replace(run_view(document, training_run(document)), profile=profile)
    assert run.status is not None
    assert run.status.resolved is not None
    assert run.status.resolved.profile_hash == snapshot.digest
    assert run.status.resolved.profile_revision == snapshot.revision
    return RunSimulation(run=run, now=moment(document), status=document["status"])


def moment(document: dict[str, Any]) -> datetime:
    """When the status was last written, or a little after."""
    times = [document["status"].get("completionTime"), document["status"].get("progress", {}).get("updatedTime")]
    return datetime.fromisoformat(max(item for item in times if item))


@pytest.mark.parametrize("name", ["reefscape", "first", "strict"])
def test_an_object_of_the_cluster_is_valid_and_its_status_is_kept(name: str) -> None:
    document = on_cluster("TrainingRun", name)
    checked = check(document)
    assert checked.problems == ()
    # Every default is in it already.
    assert checked.value["spec"] == document["spec"]
    status = read_status(document["status"])
    assert json.loads(to_json(status)) == document["status"]
    for stage in document["status"]["stages"]:
        if "jobRef" in stage:
            uid = document["metadata"]["uid"]
            assert stage["jobRef"]["name"] == job_name(name, uid, Stage(stage["name"]), stage["attempts"])


@pytest.mark.parametrize("name", ["reefscape", "strict"])
def test_a_run_that_has_ended_on_the_cluster_stays_as_it_is(name: str) -> None:
    ended = sim(name)
    ended.pass_time(10 * DAY)
    before = ended.status
    plan = ended.settle()
    assert ended.status == before
    assert (ended.writes, ended.created, ended.events, ended.releases) == (0, {}, [], {})
    assert not plan.reserve
    assert not plan.release_status


def test_a_run_in_training_goes_on_with_its_job_and_then_to_the_next_stage() -> None:
    running = sim("first")
    reference = running.stage(Stage.TRAIN).job_ref
    job = JobView(reference.name, reference.uid, running.run.uid, Stage.TRAIN, 1, JobState.ACTIVE, running.run.created)
    running.jobs[job.name] = job
    running.start()
    before = [item for item in running.read().stages if item.name is Stage.CONVERT]
    running.settle()
    assert (running.created, running.events) == ({}, [])
    assert running.read().phase is Phase.TRAINING
    for stage in (Stage.TRAIN, Stage.EXPORT, Stage.COMPILE, Stage.PUBLISH):
        running.succeed(success(stage, 1).replace(UID, running.run.uid))
        running.settle()
    assert running.read().phase is Phase.SUCCEEDED
    # The Job of that commit has one stage; what it leaves to do is put together as now.
    assert [[number.stage for number in item.stages] for item in running.requests.values()] == [
        [Stage.EXPORT],
        [Stage.COMPILE, Stage.PUBLISH],
    ]
    assert set(running.releases) == {1}
    assert [item for item in running.read().stages if item.name is Stage.CONVERT] == before


def test_a_run_that_failed_on_the_cluster_is_tried_again_from_the_stage_that_failed() -> None:
    failed = sim("strict")
    failed.run = replace(failed.run, retry="2027-01-10T08:00:00Z")
    failed.settle()
    assert failed.read().phase is Phase.EXPORTING
    assert [(item.stage, item.attempt) for item in failed.requests.values()] == [(Stage.EXPORT, 2)]


def test_the_release_is_that_of_its_run() -> None:
    release, run = on_cluster("ModelRelease", "note-v1"), on_cluster("TrainingRun", "reefscape")
    assert check(release).problems == ()
    assert own_release([release], model="note", run_uid=run["metadata"]["uid"]) == ReleaseView("note-v1", 1, True)
    assert run["status"]["release"]["name"] == release["metadata"]["name"]


# Files.


def placed(document: Any, folder: Path) -> Any:
    """`document` with the folder in place of `{store}`."""
    return json.loads(json.dumps(document).replace("{store}", str(folder.resolve())))


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
