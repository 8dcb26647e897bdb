"""A store that only the cluster reaches: MinIO behind a port-forward, in parts and in parallel, over TLS."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from atoll_cli.commands.push import HDF5_SIGNATURE
from atoll_cli.main import main
from atoll_contract.document import to_json
from atoll_contract.keys import RunRef
from atoll_contract.release import EdgeTpu, Manifest, ManifestFile, ModelInput, Role
from atoll_contract.store.s3 import S3Store
from support.certificates import self_signed
from support.forwarding_api import ForwardingApi
from support.minio import MinioServer
from support.polling import wait_until
from support.s3 import bucket_spec

pytestmark = pytest.mark.api

ATOLL = "/apis/atoll.dev/v1alpha1/namespaces/team"
CORE = "/api/v1/namespaces/team"


@pytest.fixture
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture
def bucket(minio: MinioServer, tmp_path: Path) -> S3Store:
    return S3Store(bucket_spec(minio, "frc", tmp_path / "credentials"))


@pytest.fixture
def api(minio: MinioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForwardingApi]:
    """A cluster whose ObjectStore names the Service of a pod that is MinIO."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config-home"))
    monkeypatch.delenv("ATOLL_ENDPOINT", raising=False)
    monkeypatch.chdir(tmp_path)
    with ForwardingApi(certificate=self_signed(tmp_path / "server.pem")) as server:
        server.objects |= {
            f"{ATOLL}/objectstores/default": _store("http://atoll-store.team.svc:9000"),
            f"{CORE}/services/atoll-store": {
                "spec": {"selector": {"app": "store"}, "ports": [{"port": 9000, "targetPort": "s3"}]}
            },
            f"{CORE}/pods": {"items": [_pod("store-0")], "metadata": {}},
        }
        server.ports["store-0", 9000] = urlsplit(minio.endpoint).port or 0
        yield server


def _store(endpoint: str) -> dict[str, Any]:
    spec = {
        "bucket": "frc",
        "prefix": "atoll/",
        "endpoint": endpoint,
        "addressingStyle": "auto",
        "checksumMode": "auto",
        "credentials": {"secretRef": {"name": "atoll-store"}},
    }
    return {"metadata": {"name": "default", "namespace": "team"}, "spec": spec}


def _pod(name: str) -> dict[str, Any]:
    ports = [{"name": "s3", "containerPort": 9000}]
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "s3", "ports": ports}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def _published(bucket: S3Store, data: bytes) -> dict[str, Any]:
    """The ModelRelease of note-v1, whose bundle is `data`."""
    digest = hashlib.sha256(data).hexdigest()
    blob = bucket.put(f"blobs/sha256/{digest}", data)
    manifest = Manifest(
        namespace="team",
        model="note",
        version=1,
        sequence=1,
        created_at="2027-01-09T19:12:00Z",
        run=RunRef("team", "note", "uid"),
        input=ModelInput(320, 320),
        labels=("note",),
        thresholds=(0.5,),
        files=(ManifestFile(Role.BUNDLE, "model.tar.gz", blob.key, digest, len(data)),),
        edgetpu=EdgeTpu(compiled=False),
    )
    put = bucket.put("models/team/note/v1/manifest.json", to_json(manifest))
    spec = {"model": "note", "version": 1, "objectStoreRef": {"name": "default"}, "runRef": {"name": "note"}}
    return {"spec": spec, "status": {"published": True, "manifest": {"sha256": f"sha256:{put.sha256}"}}}


def test_archives_go_in_and_releases_come_out_through_a_port_forward(
    api: ForwardingApi, bucket: S3Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = HDF5_SIGNATURE + secrets.token_bytes(40 * 2**20)
    (tmp_path / "large.weights.h5").write_bytes(data)
    kubeconfig = str(api.write_kubeconfig(tmp_path / "config"))
    assert main(["push", "large.weights.h5", "--weights", "--kubeconfig", kubeconfig]) == 0
    info = bucket.head("weights/large.weights.h5")
    assert info is not None
    assert info.sha256 == hashlib.sha256(data).hexdigest()
    api.objects[f"{ATOLL}/modelreleases/note-v1"] = _published(bucket, data)
    assert main(["pull", "note-v1", "--kubeconfig", kubeconfig]) == 0
    assert (tmp_path / "note-v1" / "model.tar.gz").read_bytes() == data
    assert "port-forward" not in capsys.readouterr().err


def test_prune_asks_the_cluster_for_its_runs(
    api: ForwardingApi, bucket: S3Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("runs/team/gone/a/b", "runs/team/active/a/b", "runs/other/gone/a/b"):
        bucket.put(key, b"x")
    active = {"metadata": {"name": "note", "uid": "active"}, "spec": {}, "status": {"phase": "Training"}}
    api.objects[f"{ATOLL}/trainingruns"] = {"items": [active], "metadata": {}}
    prune = ["prune", "--older-than", "1s", "--kubeconfig", str(api.write_kubeconfig(tmp_path / "config"))]

    def found() -> list[str]:
        assert main([*prune, "-o", "json"]) == 0
        return [item["name"] for item in json.loads(capsys.readouterr().out)["groups"]]

    wait_until(found, what="the run's files to be a second old")
    assert found() == ["runs/team/gone/"]
    assert main([*prune, "--yes"]) == 0
    assert {info.key for info in bucket.list("runs/")} == {"runs/team/active/a/b", "runs/other/gone/a/b"}


def test_an_endpoint_that_is_named_wins(
    api: ForwardingApi, bucket: S3Store, minio: MinioServer, tmp_path: Path
) -> None:
    api.ports.clear()
    (tmp_path / "small.weights.h5").write_bytes(HDF5_SIGNATURE)
    kubeconfig = str(api.write_kubeconfig(tmp_path / "config"))
    push = ["push", "small.weights.h5", "--weights", "--kubeconfig", kubeconfig]
    assert main([*push, "--endpoint", minio.endpoint]) == 0
    assert bucket.get("weights/small.weights.h5") == HDF5_SIGNATURE
