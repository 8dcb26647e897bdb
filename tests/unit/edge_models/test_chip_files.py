"""The file that a release holds for the device's own chip: fetched, tried, kept, and done without."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll_contract import keys
from atoll_contract.document import replace, to_json
from atoll_contract.release import Manifest, ManifestFile, Role
from atoll_contract.store.directory import DirStore
from atoll_edge.config import Verify
from atoll_edge.detector.backends.base import Backend
from atoll_edge.models.canary_worker import CanaryJob
from atoll_edge.models.card_reads import ReleaseDamaged
from atoll_edge.models.download import PollResult, ReleaseDownloader
from atoll_edge.models.release_files import chip_file
from atoll_edge.models.release_state import Refusal
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import ExpectedRelease
from support.edge_model import SIDE
from support.edge_release import CHANNEL, MODEL, NAMESPACE, Published, point, publish
from support.standin_runtimes import StandinRuntimes, anchor_head

pytestmark = pytest.mark.timeout(300)

HEAD = to_json(anchor_head(SIDE))
COMPILED = {"rk3588": b"for the large one", "rk3566": b"for the small one"}
Fetch = Callable[..., PollResult]


def compiled_file(chip: str) -> ManifestFile:
    data = COMPILED[chip]
    digest = hashlib.sha256(data).hexdigest()
    return ManifestFile(Role.MODEL_COMPILED, f"model-{chip}.rknn", keys.blob(digest), digest, len(data), target="rknn")


@pytest.fixture
def published(bucket: DirStore) -> Published:
    """A release that was compiled for the RK3588."""
    item = compiled_file("rk3588")
    bucket.put(item.key, COMPILED["rk3588"])

    def add(manifest: Manifest) -> Manifest:
        return replace(manifest, files=(*manifest.files, item))

    return publish(bucket, alter=add)


@pytest.fixture
def fetch(bucket: DirStore, tmp_path: Path) -> Fetch:
    """Polls for a device: `fetch(device, backend)` returns the result."""

    def poll(
        device: ReleaseStore, backend: Backend = Backend.CPU, canary: Callable[..., None] | None = None
    ) -> PollResult:
        expected = ExpectedRelease(NAMESPACE, MODEL, Verify.DIGEST_ONLY)
        downloader = ReleaseDownloader(bucket, device, expected, CHANNEL, backend_for=lambda _: backend)
        if canary is not None:
            downloader = replace_canary(downloader, canary)
        return downloader.poll(None, lambda _: None).result

    return poll


def replace_canary(downloader: ReleaseDownloader, canary: Callable[..., None]) -> ReleaseDownloader:
    return dataclasses.replace(downloader, canary=canary)


def device_with(tmp_path: Path, chip: str | None) -> ReleaseStore:
    return ReleaseStore(tmp_path / "device", chip=chip)


@pytest.mark.parametrize(("chip", "held"), [("rk3588", True), ("rk3566", False), ("qcs6490", False), (None, False)])
def test_a_device_fetches_the_file_for_its_own_chip(
    published: Published, fetch: Fetch, tmp_path: Path, chip: str | None, held: bool
) -> None:
    device = device_with(tmp_path, chip)
    assert fetch(device, canary=lambda *_, **__: None) is PollResult.STAGED
    assert device.has_blob(compiled_file("rk3588").sha256) is held
    spec = device.model_spec(published.sha256, device.check(published.sha256))
    assert (spec.rknn_path is not None) is held
    assert spec.path(Backend.RKNN) == spec.rknn_path
    assert spec.path(Backend.QNN) == spec.cpu_path
    assert spec.side == published.manifest.input.width


def test_E29_a_card_that_moves_to_another_device_does_without_the_file(
    published: Published, fetch: Fetch, tmp_path: Path
) -> None:
    assert fetch(device_with(tmp_path, None), canary=lambda *_, **__: None) is PollResult.STAGED
    moved = device_with(tmp_path, "rk3588")
    spec = moved.model_spec(published.sha256, moved.check(published.sha256))
    assert spec.rknn_path is None
    assert spec.cpu_path is not None


def test_a_damaged_file_is_found_and_fetched_again(published: Published, fetch: Fetch, tmp_path: Path) -> None:
    device = device_with(tmp_path, "rk3588")
    fetch(device, canary=lambda *_, **__: None)
    blob = device.blob_path(compiled_file("rk3588").sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"worn")
    with pytest.raises(ReleaseDamaged, match=r"model-rk3588\.rknn of colours-v1 is not what it was"):
        device.check(published.sha256)
    device.change(lambda state: replace(state, candidate=None))
    assert fetch(device, canary=lambda *_, **__: None) is PollResult.STAGED
    assert blob.read_bytes() == COMPILED["rk3588"]


def test_a_command_that_does_not_know_the_chip_removes_no_file(
    published: Published, fetch: Fetch, tmp_path: Path
) -> None:
    fetch(device_with(tmp_path, "rk3588"), canary=lambda *_, **__: None)
    device_with(tmp_path, None).collect_garbage()
    assert device_with(tmp_path, "rk3588").has_blob(compiled_file("rk3588").sha256)


def test_the_chip_of_a_file_is_in_its_name(published: Published) -> None:
    assert chip_file(published.manifest, "rk3588") == compiled_file("rk3588")
    assert chip_file(published.manifest, "rk3566") is None
    assert chip_file(published.manifest, None) is None
    for other in ("unoptimized.tflite", "model.tflite", "other-rk3588.rknn", "model-rk3588"):
        assert ManifestFile(Role.MODEL_COMPILED, other, "", "", 0).chip is None


def test_the_widths_of_objects_come_with_the_release(bucket: DirStore, fetch: Fetch, tmp_path: Path) -> None:
    """What no object has, in a manifest that nobody signed, is left out."""
    widths = {"red": 0.36, "blue": 0.0, "green": 1e9}
    published = publish(bucket, alter=lambda manifest: replace(manifest, object_widths=widths))
    device = device_with(tmp_path, None)
    fetch(device, canary=lambda *_, **__: None)
    assert device.model_spec(published.sha256, device.check(published.sha256)).widths == (("red", 0.36),)


def test_what_only_a_later_version_knows_is_passed_over_on_the_card_too(
    bucket: DirStore, fetch: Fetch, tmp_path: Path
) -> None:
    published = publish(bucket)
    later = json.loads(published.data) | {"later": 1}
    later["files"].append(later["files"][0] | {"role": "of-later"})
    data = json.dumps(later).encode()
    later_one = dataclasses.replace(published, data=data, sha256=hashlib.sha256(data).hexdigest())
    bucket.put(keys.manifest(NAMESPACE, MODEL, 1), data)
    point(bucket, later_one, version=1)
    device = device_with(tmp_path, None)
    assert fetch(device, canary=lambda *_, **__: None) is PollResult.STAGED
    manifest = device.check(later_one.sha256)
    assert manifest.release == "colours-v1"
    assert [item.role for item in manifest.files][-1] is Role.OTHER


@pytest.mark.parametrize(
    ("backend", "tried"),
    [
        (Backend.CPU, [Backend.CPU]),
        # The Coral belongs to the detector that runs: what it loads shows itself on probation.
        (Backend.EDGETPU, [Backend.CPU]),
        (Backend.QNN, [Backend.CPU, Backend.QNN]),
        (Backend.RKNN, [Backend.CPU, Backend.RKNN]),
    ],
)
def test_the_canary_loads_the_file_that_will_serve(
    published: Published, fetch: Fetch, tmp_path: Path, backend: Backend, tried: list[Backend]
) -> None:
    device, jobs = device_with(tmp_path, "rk3588"), list[CanaryJob]()
    assert fetch(device, backend, lambda job, name: jobs.append(job)) is PollResult.STAGED
    assert [job.backend for job in jobs] == tried
    spec = device.model_spec(published.sha256, device.check(published.sha256))
    assert [Path(job.model) for job in jobs] == [spec.path(item) for item in tried]
    assert all(len(job.golden) == 1 and job.side == spec.side for job in jobs)


def test_a_canary_on_the_npu_finds_the_golden_boxes(
    published: Published, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandinRuntimes(tmp_path / "standins", monkeypatch)
    assert fetch(device_with(tmp_path, "rk3588"), Backend.RKNN) is PollResult.STAGED


def test_wrong_results_on_the_npu_refuse_the_release(
    published: Published, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandinRuntimes(tmp_path / "standins", monkeypatch).rknn(nan=True)
    with pytest.raises(Refusal, match="colours-v1 on the Rockchip NPU failed its self-test: 1 detections hold NaN"):
        fetch(device_with(tmp_path, "rk3588"), Backend.RKNN)


def head_file() -> ManifestFile:
    digest = hashlib.sha256(HEAD).hexdigest()
    return ManifestFile(Role.DETECTOR, "detector.json", keys.blob(digest), digest, len(HEAD))


@pytest.fixture
def with_head(bucket: DirStore) -> Published:
    """The same release of an SSD, with the document on its anchors."""
    items = compiled_file("rk3588"), head_file()
    for item, data in zip(items, (COMPILED["rk3588"], HEAD), strict=True):
        bucket.put(item.key, data)
    return publish(bucket, alter=lambda manifest: replace(manifest, files=(*manifest.files, *items)))


@pytest.mark.parametrize(("chip", "held"), [("rk3588", True), ("rk3566", False), (None, False)])
def test_the_document_on_the_anchors_comes_with_the_file(
    with_head: Published, fetch: Fetch, tmp_path: Path, chip: str | None, held: bool
) -> None:
    device = device_with(tmp_path, chip)
    assert fetch(device, canary=lambda *_, **__: None) is PollResult.STAGED
    spec = device.model_spec(with_head.sha256, device.check(with_head.sha256))
    path = device.blob_path(head_file().sha256)
    assert path.exists() is held
    assert spec.head(Backend.RKNN) == (str(path) if held else None)
    assert spec.head(Backend.CPU) is None


def test_a_release_that_an_older_agent_fetched_does_without_the_document(
    with_head: Published, fetch: Fetch, tmp_path: Path
) -> None:
    device = device_with(tmp_path, "rk3588")
    fetch(device, canary=lambda *_, **__: None)
    device.blob_path(head_file().sha256).unlink()
    spec = device.model_spec(with_head.sha256, device.check(with_head.sha256))
    assert spec.rknn_path is not None
    assert spec.head(Backend.RKNN) is None


def test_a_canary_of_an_ssd_on_the_npu_finds_the_golden_boxes(
    with_head: Published,
    fetch: Fetch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    StandinRuntimes(tmp_path / "standins", monkeypatch).rknn(anchors=True)
    with caplog.at_level(logging.WARNING):
        assert fetch(device_with(tmp_path, "rk3588"), Backend.RKNN) is PollResult.STAGED
    assert "was not tried" not in caplog.text


def test_an_ssd_for_the_npu_of_an_older_release_is_left_to_the_cpu(
    published: Published,
    fetch: Fetch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other programs may read the file; here the CPU runs the release."""
    StandinRuntimes(tmp_path / "standins", monkeypatch).rknn(anchors=True)
    assert fetch(device_with(tmp_path, "rk3588"), Backend.RKNN) is PollResult.STAGED


def test_an_npu_that_cannot_load_the_file_is_no_fault_of_the_release(
    published: Published, fetch: Fetch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The CPU has tried it; the detector goes on with that."""
    with caplog.at_level(logging.WARNING):
        assert fetch(device_with(tmp_path, "rk3588"), Backend.RKNN) is PollResult.STAGED
    assert "colours-v1 on the Rockchip NPU was not tried: the backend rknn is not installed here" in caplog.text
