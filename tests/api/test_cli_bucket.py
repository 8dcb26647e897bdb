"""The commands that need cluster and bucket: a real API server, a real operator, MinIO, the user's own credentials."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atoll_cli.main import main
from atoll_contract import keys
from atoll_contract.document import from_json, to_json
from atoll_contract.errors import Reason
from atoll_contract.keys import RunRef
from atoll_contract.release import EdgeTpu, Manifest, ManifestFile, ModelInput, Role
from atoll_contract.stage import Stage, StageInput
from atoll_contract.stage_result import Artifact, StageResult
from atoll_contract.store.s3 import S3Store
from cluster.controlplane import ControlPlane
from cluster.kubelet import Kubelet, StageEnd, succeed
from cluster.objects import Objects, run_manifest, store_manifest
from support.archives import jpeg
from support.coloured_squares import coloured_png, squares, write_archive
from support.edge_model import LABELS, SIDE, colour_detector
from support.edge_release import release_files
from support.harvested_frames import put as put_frame
from support.minio import MinioServer
from support.s3 import bucket_spec
from support.videos import write_video

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("operator", "kubelet")]

Atoll = Callable[..., int]
REPORT = b"<!doctype html><title>report</title>"
BUNDLE = b"a bundle"
STORE = "bucket"


@pytest.fixture(scope="module")
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture(scope="module")
def bucket(minio: MinioServer, team: Objects, tmp_path_factory: pytest.TempPathFactory) -> S3Store:
    """The bucket behind the ObjectStore `bucket`; the Secret that this names does not exist."""
    manifest = store_manifest(STORE)
    manifest["spec"]["endpoint"] = minio.endpoint
    team.create("objectstores", manifest)
    return S3Store(bucket_spec(minio, manifest["spec"]["bucket"], tmp_path_factory.mktemp("credentials")))


@pytest.fixture
def atoll(
    control_plane: ControlPlane, team: Objects, minio: MinioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Atoll:
    """The command line of a user with a kubeconfig and credentials in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATOLL_STORE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str) -> int:
        return main([*arguments, "--kubeconfig", str(control_plane.kubeconfig), "-n", team.namespace])

    return call


@pytest.fixture(scope="module")
def published(team: Objects, kubelet: Kubelet, bucket: S3Store) -> str:
    """A run whose report, release and logs lie in the bucket; its name."""

    def export(given: StageInput, pod_uid: str) -> StageEnd:
        made = from_json(StageResult, succeed(given, pod_uid).message.encode())
        info = bucket.put(f"{given.prefix(pod_uid)}report", REPORT)
        outputs = tuple(
            Artifact(item.name, info.key, info.sha256 or "", info.size) if item.name == "report" else item
            for item in made.outputs
        )
        _log(given, pod_uid, "measured\n", "done\n")
        return _ended(given, outputs, made)

    def publish(given: StageInput, pod_uid: str) -> StageEnd:
        assert given.publish is not None
        made = from_json(StageResult, succeed(given, pod_uid).message.encode())
        manifest = bucket.put(
            keys.manifest(team.namespace, given.publish.model, given.publish.version), _manifest(given)
        )
        _log(given, pod_uid, "published\n")
        outputs = tuple(
            Artifact(item.name, manifest.key, manifest.sha256 or "", manifest.size) if item.name == "manifest" else item
            for item in made.outputs
        )
        return _ended(given, outputs, made)

    def _log(given: StageInput, pod_uid: str, *chunks: str) -> None:
        for number, chunk in enumerate(chunks):
            key = keys.log_chunk(given.run, given.stage, attempt=given.attempt, pod_uid=pod_uid, number=number)
            bucket.put(key, chunk.encode())

    def _manifest(given: StageInput) -> bytes:
        blob = bucket.put(keys.blob("b" * 64), BUNDLE)
        file = ManifestFile(Role.BUNDLE, "model.tar.gz", blob.key, blob.sha256 or "", blob.size)
        model = release_files(colour_detector())
        for item, content in model.items():
            bucket.put(item.key, content)
        return _release(given.run, given.publish.model if given.publish else "", (file, *model))

    kubelet.scripts["cli-bucket", Stage.EXPORT] = export
    kubelet.scripts["cli-bucket", Stage.PUBLISH] = publish
    settings = {"profileRef": {"name": team.namespace}, "objectStoreRef": {"name": STORE}}
    team.create("trainingruns", run_manifest("cli-bucket", publish={"model": "cli-bucket"}, **settings))
    status = team.wait_for_phase("cli-bucket", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded", status["message"]
    return "cli-bucket"


def _ended(given: StageInput, outputs: tuple[Artifact, ...], made: StageResult) -> StageEnd:
    result = StageResult(
        given.stage, given.attempt, Reason.COMPLETED, made.message, outputs=outputs, summary=made.summary
    )
    return StageEnd(0, result.termination_message().decode())


def _release(run: RunRef, model: str, files: tuple[ManifestFile, ...]) -> bytes:
    return to_json(
        Manifest(
            namespace=run.namespace,
            model=model,
            version=1,
            sequence=1,
            created_at="2027-01-09T19:12:00Z",
            run=run,
            input=ModelInput(SIDE, SIDE),
            labels=LABELS,
            thresholds=(0.5, 0.5),
            files=files,
            edgetpu=EdgeTpu(compiled=False),
        )
    )


def test_harvest_fetches_what_devices_uploaded(
    atoll: Atoll, bucket: S3Store, team: Objects, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 4):
        put_frame(bucket, number, namespace=team.namespace)
    where = ("--object-store", STORE, "--to", str(tmp_path / "batch"))
    assert atoll("harvest", "pi-front", *where, "--since", "1d", "--limit", "2", "--delete") == 0
    assert "1 beyond the limit + 2 kept" in capsys.readouterr().out
    assert len(list((tmp_path / "batch").glob("harvest-*/pi-front/img/*.jpg"))) == 2
    assert len(list(bucket.list(keys.harvests_prefix(team.namespace)))) == 2


def test_pull_fetches_the_bundle_that_the_release_names(
    atoll: Atoll, published: str, tmp_path: Path, bucket: S3Store, team: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    assert atoll("pull", f"{published}-v1") == 0
    assert (tmp_path / f"{published}-v1" / "model.tar.gz").read_bytes() == BUNDLE
    assert atoll("releases") == 0
    assert f"{published}-v1" in capsys.readouterr().out
    assert atoll("pull", f"{published}-v2") == 20
    assert "there is no ModelRelease" in capsys.readouterr().err
    # Whoever can write the bucket cannot change what the cluster's ModelRelease has pinned.
    key = keys.manifest(team.namespace, published, 1)
    before = bucket.get(key)
    bucket.put(key, before.replace(b'"red"', b'"rod"'))
    assert atoll("pull", f"{published}-v1") == 50
    bucket.put(key, before)
    assert atoll("pull", f"{published}-v1", "--to", "other") == 0


def test_a_release_of_the_cluster_is_tried_on_a_video_and_compared(
    atoll: Atoll, published: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = np.asarray(Image.open(io.BytesIO(coloured_png(squares(0, 1)[0]))))
    film = write_video(tmp_path / "film.mp4", [picture] * 5)
    assert atoll("test-video", f"{published}-v1", str(film), "--to", "tried", "-o", "json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["model"]["name"] == f"{published}-v1"
    assert {name: found["frames"] for name, found in summary["videos"][0]["perClass"].items()} == {"red": 5, "blue": 5}
    assert atoll("compare", f"{published}-v1", f"{published}-v1") == 20
    assert "does not name its dataset" in capsys.readouterr().err
    archive = write_archive(tmp_path / "own.tar", {"any": squares(0, 3)})
    assert atoll("compare", f"{published}-v1", f"{published}-v1", "--data", str(archive), "-o", "json") == 0
    [found] = json.loads(capsys.readouterr().out)["sets"]
    assert (found["old"]["ap50"], found["new"]["ap50"]) == (1.0, 1.0)


def test_the_report_of_a_run_is_fetched(
    atoll: Atoll, published: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert atoll("report", published, "--no-open") == 0
    assert capsys.readouterr().out == f"{published}-report.html\n"
    assert (tmp_path / f"{published}-report.html").read_bytes() == REPORT


def test_the_log_of_a_pod_that_is_gone_comes_from_the_bucket(
    atoll: Atoll, published: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert atoll("logs", published) == 0
    assert capsys.readouterr().out == "published\n"
    assert atoll("logs", published, "--stage", "export", "-f") == 0
    assert capsys.readouterr().out == "measured\ndone\n"
    assert atoll("logs", published, "--stage", "convert") == 20
    assert "holds no log of it" in capsys.readouterr().err


def test_wrong_credentials_are_told_as_the_users_own(
    atoll: Atoll, published: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-wrong-wrong")
    assert atoll("report", published) == 21
    told = capsys.readouterr().err
    assert "your own credentials are used" in told
    assert "wrong-wrong-wrong" not in told


def test_push_checks_an_archive_and_puts_it_where_runs_read_it(
    atoll: Atoll, bucket: S3Store, team: Objects, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = _archive(tmp_path / "good.zip"), tmp_path / "bad.zip"
    bad.write_bytes(b"no archive")
    assert atoll("push", "good.zip", "--object-store", STORE) == 0
    assert "8 pictures" in capsys.readouterr().out
    assert bucket.get(f"datasets/{team.namespace}/good.zip") == good.read_bytes()
    assert atoll("push", "good.zip", "--object-store", STORE, "--no-check") == 0
    assert "is there already" in capsys.readouterr().out
    assert atoll("push", "bad.zip", "--object-store", STORE) == 13
    assert bucket.head(f"datasets/{team.namespace}/bad.zip") is None
    assert atoll("push", "bad.zip", "--object-store", STORE, "--weights") == 50
    assert bucket.head("weights/bad.zip") is None
    assert atoll("push", "good.zip") == 30  # the ObjectStore `default` of this team has an address that nobody has
    assert "--endpoint" in capsys.readouterr().err


def _archive(path: Path) -> Path:
    """COCO: eight pictures with a box each."""
    import zipfile

    images = [{"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48} for number in range(8)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [4, 4, 30, 30]} for n in range(8)]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "note"}]}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("annotations.json", json.dumps(document))
        for number in range(8):
            archive.writestr(f"{number}.jpg", jpeg(number))
    return path
