"""`atoll new` for a cluster: a real API server, MinIO, the user's own credentials."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from atoll_cli.main import main
from atoll_contract import keys
from atoll_contract.store.s3 import S3Store
from cluster.controlplane import ControlPlane
from cluster.objects import Objects, run_manifest, store_manifest
from support import archives
from support.draft_inputs import ended_run
from support.minio import MinioServer
from support.s3 import bucket_spec

pytestmark = pytest.mark.api

Atoll = Callable[..., int]
PICTURES = archives.tar_bytes(archives.supervisely(12, labels=("coral", "algae")))


@pytest.fixture(scope="module")
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture
def atoll(control_plane: ControlPlane, team: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Atoll:
    """The command line of a user with a kubeconfig, in a folder with one archive."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATOLL_STORE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "reef.tar").write_bytes(PICTURES)

    def call(*arguments: str) -> int:
        where = ["--kubeconfig", str(control_plane.kubeconfig), "-n", team.namespace]
        return main(["new", *arguments, "--profile", team.namespace, *where])

    return call


def test_the_api_server_takes_the_file(atoll: Atoll, team: Objects, capsys: pytest.CaptureFixture[str]) -> None:
    assert atoll("reef.tar") == 0
    told = capsys.readouterr().out
    assert f"atoll push reef.tar -n {team.namespace}" in told
    assert "kubectl apply -f run.yaml" in told
    assert "no estimate (no run with these settings has ended there yet" in told
    manifest = yaml.safe_load(Path("run.yaml").read_text())
    assert manifest["metadata"] == {"name": "reef", "namespace": team.namespace}
    created = team.create("trainingruns", manifest)
    assert created["spec"]["profileRef"]["name"] == team.namespace


def test_an_earlier_run_tells_the_time_and_takes_its_name(
    atoll: Atoll, team: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = ended_run(width="1.0", on="cpu")
    settings: dict[str, object] = {
        "profileRef": {"name": team.namespace},
        "model": {"width": "1.0"},
        "training": {"steps": 1000, "batchSize": 8},
    }
    team.create("trainingruns", run_manifest("notes", publish={"model": "notes"}, **settings))
    team.patch_status("trainingruns", "notes", {"status": ended["status"]})
    assert atoll("reef.tar", "--name", "notes", "-o", "json", "--force") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["run"], document["model"]) == ("notes-2", "notes")
    assert document["estimateBasis"].startswith("0.5 s a step as in run notes")
    assert document["estimateSeconds"] == 60 + document["steps"] * 0.5


def test_an_archive_in_the_bucket_is_looked_into(
    atoll: Atoll, team: Objects, minio: MinioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = store_manifest("bucket")
    manifest["spec"]["endpoint"] = minio.endpoint
    team.create("objectstores", manifest)
    store = S3Store(bucket_spec(minio, manifest["spec"]["bucket"], tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    key = keys.dataset(team.namespace, "pushed.tar")
    store.put(key, PICTURES)
    assert atoll("--object-store", "bucket", "--to", "pushed.yaml") == 0
    run = yaml.safe_load(Path("pushed.yaml").read_text())
    assert run["spec"]["datasets"] == [{"key": key}]
    assert run["spec"]["objectStoreRef"] == {"name": "bucket"}
    team.create("trainingruns", run)
