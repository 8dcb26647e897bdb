"""Faults E9 and E12 (docs/faults.md): what a device does with a wrong clock, and what its keys open when they leak."""

from __future__ import annotations

import datetime
import importlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from atoll_contract import keys
from atoll_contract.document import from_json, replace
from atoll_contract.release import DeviceReport
from atoll_contract.signing import KeyPair, generate_key, sign
from atoll_contract.store.base import StoreError, StoreForbidden
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec
from atoll_edge.config import Verify
from atoll_edge.models.download import PollResult, ReleaseDownloader
from atoll_edge.models.poller import PollSchedule, ReleasePoller
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import ExpectedRelease
from support.edge_release import CHANNEL, MODEL, NAMESPACE, publish
from support.faulted_store import Bench
from support.minio import MinioServer
from support.s3 import write_credentials

pytestmark = pytest.mark.api

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
DEVICE = "pi-1"
REPORT = DeviceReport(NAMESPACE, MODEL, DEVICE, "Active", "1970-01-01T00:00:07Z", CHANNEL)


@pytest.fixture(scope="module")
def key() -> KeyPair:
    return generate_key()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[ReleaseStore]:
    store = ReleaseStore(tmp_path / "device")
    store.lock()
    yield store
    store.unlock()


def loop_on(store: S3Store, device: ReleaseStore, key: KeyPair) -> ReleasePoller:
    """The device's own thread of work, one step at a time; the model's trial is not what is asked here."""
    expected = ExpectedRelease(NAMESPACE, MODEL, Verify.REQUIRED, lambda: (key.public_pem,))
    fetcher = ReleaseDownloader(store, device, expected, CHANNEL, canary=lambda *_, **__: None)
    return ReleasePoller(fetcher, PollSchedule(30.0), report=lambda: REPORT, report_seconds=60.0)


def signing_with(key: KeyPair) -> Callable[[bytes], bytes]:
    return lambda data: sign(data, key.private_pem)


def test_E9_a_device_at_1970_keeps_what_it_has_and_goes_on_when_its_clock_is_set(
    bench: Bench, device: ReleaseStore, key: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = loop_on(bench.open(), device, key)
    first = publish(bench.real, 1, sign=signing_with(key))
    loop.step(0.0)
    assert device.read().candidate == first.sha256
    second = publish(bench.real, 2, sign=signing_with(key))
    signing: Any = importlib.import_module("botocore.auth")
    with monkeypatch.context() as wrong:
        at_1970 = datetime.datetime(1970, 1, 1, 0, 0, 7, tzinfo=datetime.UTC)
        wrong.setattr(signing, "get_current_datetime", lambda *_, **__: at_1970.replace(tzinfo=None))
        for hour in range(1, 25):
            loop.step(hour * 3600.0)
            assert "the clock of this machine is wrong" in str(loop.status.last_result)
        assert device.read().candidate == first.sha256
    loop.step(26 * 3600.0)
    assert loop.status.last_result == PollResult.STAGED
    assert device.read().candidate == second.sha256


@dataclass(frozen=True)
class Leak:
    """What somebody has who reads a device's card: its store, with its keys."""

    store: S3Store
    owner: S3Store
    bucket: str

    @property
    def client(self) -> Any:
        return self.store.client


@pytest.fixture
def leak(bench: Bench, minio: MinioServer, tmp_path: Path) -> Leak:
    """Keys under the very policy that docs/security.md gives for a device."""
    import boto3

    bucket, prefix = str(bench.direct.bucket), bench.direct.prefix
    values = {"BUCKET": bucket, "PREFIX": prefix, "NAMESPACE": NAMESPACE, "MODEL": MODEL, "DEVICE": DEVICE}
    sts = boto3.client(
        "sts",
        endpoint_url=minio.endpoint,
        region_name="us-east-1",
        aws_access_key_id=minio.access_key,
        aws_secret_access_key=minio.secret_key,
    )
    policy = re.sub("|".join(values), lambda found: values[found[0]], documented_policy())
    given = sts.assume_role(RoleArn="arn:aws:iam:::device", RoleSessionName=DEVICE, Policy=policy)["Credentials"]
    folder = tmp_path / "device-keys"
    write_credentials(folder, given["AccessKeyId"], given["SecretAccessKey"], token=given["SessionToken"])
    spec: StoreSpec = replace(bench.direct, credentials_dir=str(folder))
    return Leak(bench.open(spec), bench.real, bucket)


def documented_policy() -> str:
    """The policy of a device as the page has it, in capitals what its reader fills in."""
    text = PAGE.read_text(encoding="utf-8")
    block = re.search(r"```json\n(.*?)```", text[text.index("A device's policy") :], re.DOTALL)
    assert block
    json.loads(block[1])
    return block[1]


def test_E12_a_devices_keys_serve_for_all_that_it_does(leak: Leak, device: ReleaseStore, key: KeyPair) -> None:
    published = publish(leak.owner, 1, sign=signing_with(key))
    loop = loop_on(leak.store, device, key)
    loop.step(0.0)
    assert loop.status.last_result == PollResult.STAGED
    assert device.read().candidate == published.sha256
    written = leak.owner.get(keys.device_report(NAMESPACE, MODEL, DEVICE))
    assert from_json(DeviceReport, written) == REPORT
    for harvested in (keys.harvested_image, keys.harvested_note):
        key_of_frame = harvested(NAMESPACE, DEVICE, "0" * 64)
        leak.store.put(key_of_frame, b"a frame")
        assert leak.owner.get(key_of_frame) == b"a frame"


OTHERS = {
    "another namespace's release": f"models/other/{MODEL}/v1/manifest.json",
    "another model's release": f"models/{NAMESPACE}/other/v1/manifest.json",
    "a dataset": f"datasets/{NAMESPACE}/pictures.tar",
    "a converted dataset": f"cache/{NAMESPACE}/datasets/0/dataset.json",
    "a run": f"runs/{NAMESPACE}/7b1e/train/a1-pod/weights.h5",
    "start weights": "weights/imagenet.h5",
    "another device's report": keys.device_report(NAMESPACE, MODEL, "pi-2"),
    "its own report": keys.device_report(NAMESPACE, MODEL, DEVICE),
    "another device's harvest": keys.harvested_image(NAMESPACE, "pi-2", "0" * 64),
    "its own harvest": keys.harvested_image(NAMESPACE, DEVICE, "0" * 64),
}
WRITABLE = {"its own report", "its own harvest"}


@pytest.mark.parametrize("name", OTHERS)
def test_E12_a_leaked_key_opens_nothing_else(leak: Leak, name: str) -> None:
    secret = OTHERS[name]
    leak.owner.put(secret, b"not for devices")
    with pytest.raises(StoreForbidden):
        leak.store.get(secret)
    if name not in WRITABLE:
        with pytest.raises(StoreForbidden):
            leak.store.put(secret, b"overwritten")
    with pytest.raises(StoreError):
        leak.store.delete(secret)
    assert leak.owner.get(secret) == b"not for devices"


def test_E12_a_leaked_key_lists_nothing_and_publishes_nothing(leak: Leak, key: KeyPair) -> None:
    publish(leak.owner, 1, sign=signing_with(key))
    for prefix in ("", "models/", f"models/{NAMESPACE}/{MODEL}/", "devices/", "blobs/"):
        with pytest.raises(StoreForbidden):
            list(leak.store.list(prefix))
    for target in (
        keys.channel(NAMESPACE, MODEL, CHANNEL),
        keys.manifest(NAMESPACE, MODEL, 1),
        keys.manifest(NAMESPACE, MODEL, 2),
        keys.blob("0" * 64),
    ):
        with pytest.raises(StoreForbidden):
            leak.store.put(target, b"forged")
    for call, arguments in (
        (leak.client.get_bucket_policy, {"Bucket": leak.bucket}),
        (leak.client.put_bucket_policy, {"Bucket": leak.bucket, "Policy": documented_policy()}),
        (leak.client.list_buckets, {}),
        (leak.client.create_bucket, {"Bucket": "of-the-thief"}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            call(**arguments)
