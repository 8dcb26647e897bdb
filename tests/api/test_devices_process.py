"""The process as its pod runs it, with a mounted Secret, a real bucket, a real API server and its page."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest

from atoll_contract import keys
from atoll_contract.document import to_json
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec
from cluster.controlplane import ControlPlane
from cluster.objects import Objects, store_manifest
from cluster.processes import free_port
from support.device_reports import MODEL, REPORT
from support.devices_kubeconfig import devices_kubeconfig
from support.minio import MinioServer
from support.polling import wait_until
from support.s3 import bucket_spec

pytestmark = pytest.mark.api

PREFIX = "atoll/"
TIMEOUT_SECONDS = 60


@pytest.fixture(scope="module")
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture
def spec(minio: MinioServer, tmp_path: Path, namespace: str) -> StoreSpec:
    return bucket_spec(minio, f"frc-{namespace}", tmp_path / "credentials", prefix=PREFIX)


@pytest.fixture
def objects(api: kubernetes.client.ApiClient, crds: list[str], namespace: str, spec: StoreSpec) -> Objects:
    found = Objects(api, namespace)
    manifest = store_manifest()
    manifest["spec"] |= {"bucket": spec.bucket, "prefix": PREFIX, "endpoint": spec.endpoint}
    found.create("objectstores", manifest)
    return found


class Process:
    """The process and its page."""

    def __init__(self, folder: Path, namespace: str, kubeconfig: str) -> None:
        self._log, self._port = folder / "mirror.log", free_port()
        path = folder / "kubeconfig"
        path.write_text(kubeconfig, encoding="utf-8")
        environment = {
            "KUBECONFIG": str(path),
            "ATOLL_MIRROR_NAMESPACE": namespace,
            "ATOLL_MIRROR_STORE": "default",
            "ATOLL_MIRROR_INTERVAL_SECONDS": "0.5",
            "ATOLL_MIRROR_PORT": str(self._port),
            "ATOLL_MIRROR_CREDENTIALS_DIR": str(folder / "credentials"),
        }
        command = [sys.executable, "-P", "-m", "atoll_operator.devices"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def page(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, ""
        except OSError:
            return 0, ""

    def wait_for_page(self, path: str, code: int) -> None:
        wait_until(lambda: self.page(path)[0] == code, what=f"{code} of {path}", timeout_seconds=TIMEOUT_SECONDS)

    def wait_for_text(self, path: str, text: str) -> None:
        wait_until(lambda: text in self.page(path)[1], what=f"{text} in {path}", timeout_seconds=TIMEOUT_SECONDS)


@pytest.fixture
def running(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, objects: Objects, spec: StoreSpec, tmp_path: Path
) -> Iterator[Process]:
    kubeconfig = devices_kubeconfig(api, control_plane, objects.namespace, store="default")
    process = Process(tmp_path, objects.namespace, kubeconfig)
    yield process
    process.process.kill()
    process.process.wait(timeout=10)


def devices(objects: Objects) -> dict[str, Any]:
    custom = kubernetes.client.CustomObjectsApi(objects.api)
    listed = custom.list_namespaced_custom_object(
        "atoll.dev", "v1alpha1", objects.namespace, "edgedevices", _request_timeout=10
    )
    return {item["metadata"]["name"]: item.get("status", {}) for item in listed["items"]}


def ready(objects: Objects, device: str) -> str:
    conditions = devices(objects).get(device, {}).get("conditions", [])
    return next((item["reason"] for item in conditions if item["type"] == "Ready"), "")


def test_a_report_becomes_a_device_and_an_outage_makes_the_process_unready(
    minio: MinioServer, spec: StoreSpec, objects: Objects, running: Process
) -> None:
    running.wait_for_page("/readyz", 200)
    store = S3Store(spec)
    key = keys.device_report(objects.namespace, MODEL, "pi-front")
    report = to_json(REPORT).replace(b"team-190", objects.namespace.encode())
    store.put(key, report)
    store.put(keys.device_report(objects.namespace, MODEL, "pi-bad"), b"not JSON")
    wait_until(lambda: ready(objects, "pi-front") == "Detecting", what="the device", timeout_seconds=TIMEOUT_SECONDS)
    wait_until(lambda: ready(objects, "pi-bad") == "ReportInvalid", what="the garbage", timeout_seconds=TIMEOUT_SECONDS)
    # A turn counts its devices once all of them are written.
    running.wait_for_text("/metrics", 'atoll_mirror_devices{ready="True"} 1.0')
    # A clock of 2027 before the bucket's own time, or after it, is said and harmless.
    status = devices(objects)["pi-front"]
    assert status["lastSeen"] != status["reportedAt"]
    minio.stop()
    running.wait_for_page("/readyz", 503)
    assert running.page("/healthz")[0] == 200
    minio.start()
    running.wait_for_page("/readyz", 200)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(timeout=TIMEOUT_SECONDS) == 0
    assert "Traceback" not in running.log
    assert minio.secret_key not in running.log
    assert all(json.loads(line)["message"] for line in running.log.splitlines())


def test_a_missing_setting_ends_the_process_and_is_named() -> None:
    command = [sys.executable, "-P", "-m", "atoll_operator.devices"]
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.strip()) == (2, "error: ATOLL_MIRROR_NAMESPACE is not set")
