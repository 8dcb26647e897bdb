"""The steps of the activation, with the time passed in, on a real folder of releases and a scripted detector."""

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atoll_contract.release import DeviceReport, Role
from atoll_contract.store.directory import DirStore
from atoll_edge.config import Verify
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.client import DetectorLost
from atoll_edge.detector.loads import ModelRefused
from atoll_edge.detector.model import DetectionResult, DetectorHealth, LoadedModelSpec
from atoll_edge.models import release_state
from atoll_edge.models.activation import ActivationController
from atoll_edge.models.download import PollResult, ReleaseDownloader
from atoll_edge.models.load_retries import RELOAD_SECONDS
from atoll_edge.models.poller import PollSchedule, ReleasePoller
from atoll_edge.models.release_state import Refusal
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.trial import TRIAL_FRAMES
from atoll_edge.models.verify import ExpectedRelease
from atoll_edge.status import ModelState
from support.edge_model import colour_detector
from support.edge_release import CHANNEL, MODEL, NAMESPACE, publish

pytestmark = pytest.mark.timeout(300)


@dataclass
class ScriptedDetector:
    """Loads every requested model at once, but for those in `refuses`, with their message or error."""

    refuses: dict[str, str | Exception] = field(default_factory=dict)
    active: LoadedModelSpec | None = None
    pending: list[str] = field(default_factory=list)
    health: DetectorHealth = field(default_factory=DetectorHealth)

    def request(self, model: LoadedModelSpec) -> "Future[Backend]":
        self.pending.append(model.name)
        future: Future[Backend] = Future()
        if model.name in self.refuses:
            refusal = self.refuses[model.name]
            future.set_exception(refusal if isinstance(refusal, Exception) else ValueError(refusal))
        else:
            self.active = model
            future.set_result(Backend.CPU)
        return future


@dataclass
class Bench:
    """A device whose time is `now`."""

    bucket: DirStore
    device: ReleaseStore
    detector: ScriptedDetector
    locked: bool = False
    now: float = 100.0
    factory: LoadedModelSpec | None = None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Restarts the device, of which the disk is left."""
        self.detector.active = None
        self.activation = ActivationController(
            self.device,
            self.detector,  # type: ignore[arg-type]
            locked=lambda: self.locked,
            factory=self.factory,
        )
        self.activation.boot()
        self.tick()

    def fetch(self, version: int) -> str:
        """Downloads a release of this version, which is then the candidate."""
        published = publish(self.bucket, version)
        assert self.downloader().poll(None, lambda _: None)[0] is PollResult.STAGED
        return published.sha256

    def downloader(self) -> ReleaseDownloader:
        expected = ExpectedRelease(NAMESPACE, MODEL, Verify.DIGEST_ONLY)
        return ReleaseDownloader(self.bucket, self.device, expected, CHANNEL, canary=lambda *_, **__: None)

    def tick(self, seconds: float = 0.2) -> ModelState:
        self.now += seconds
        self.activation.tick(self.now)
        return self.activation.state

    def answer(self, count: int = 1, *, non_finite: int = 0, seconds: float = 0.01) -> None:
        assert self.detector.active is not None
        for _ in range(count):
            self.activation.on_result(DetectionResult(self.detector.active, Backend.CPU, (), non_finite, seconds))

    def serve(self, version: int) -> str:
        """Fetches a version and lets it pass its trial."""
        release = self.fetch(version)
        self.tick()
        self.tick()
        self.answer(TRIAL_FRAMES)
        self.tick()
        assert self.tick() is ModelState.ACTIVE
        assert self.device.read().current == release
        return release


@pytest.fixture
def bench(bucket: DirStore, device: ReleaseStore) -> Bench:
    return Bench(bucket, device, ScriptedDetector())


def test_without_a_model_it_says_so(bench: Bench) -> None:
    assert bench.tick() is ModelState.NO_MODEL


def test_a_release_is_current_after_its_trial(bench: Bench) -> None:
    bench.fetch(1)
    assert bench.tick() is ModelState.PROBATION
    bench.tick()
    bench.answer(TRIAL_FRAMES - 1)
    assert bench.tick() is ModelState.PROBATION
    bench.answer()
    bench.tick()
    assert bench.tick() is ModelState.ACTIVE
    assert bench.device.read().sequences == {f"{NAMESPACE}/{MODEL}": 1}


def test_time_alone_ends_a_trial_without_a_camera(bench: Bench) -> None:
    bench.fetch(1)
    bench.tick()
    bench.tick()
    bench.tick(21.0)
    assert bench.tick() is ModelState.ACTIVE


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (lambda b: b.answer(non_finite=2), "2 detections with NaN"),
        (lambda b: b.answer(5, seconds=1.5), "took 1.5 s for a frame"),
    ],
)
def test_a_failed_trial_brings_the_previous_model_back(
    bench: Bench, trouble: Callable[[Bench], None], reason: str
) -> None:
    first = bench.serve(1)
    second = bench.fetch(2)
    bench.tick()
    bench.tick()
    assert bench.detector.active is not None
    assert bench.detector.active.name == "colours-v2"
    trouble(bench)
    bench.tick()
    assert bench.tick() is ModelState.ROLLED_BACK
    state = bench.device.read()
    assert (state.current, state.candidate) == (first, None)
    assert reason in state.bad[second]
    assert reason in (state.last_refusal or "")
    assert bench.detector.active.name == "colours-v1"


@pytest.mark.parametrize("slow", [1, 4, TRIAL_FRAMES // 2 - 1])
def test_E27_frames_that_the_device_was_slow_for_do_not_end_a_trial(bench: Bench, slow: int) -> None:
    bench.fetch(1)
    bench.tick()
    bench.tick()
    bench.answer(slow)
    bench.answer(slow, seconds=1.9)
    bench.tick()
    bench.answer(TRIAL_FRAMES - 2 * slow)
    bench.tick()
    assert bench.tick() is ModelState.ACTIVE


def test_E27_a_slow_model_of_which_few_frames_came_is_judged_at_the_end(bench: Bench) -> None:
    bench.fetch(1)
    bench.tick()
    bench.tick()
    bench.answer(2, seconds=9.0)
    assert bench.tick() is ModelState.PROBATION
    bench.tick(21.0)
    assert bench.tick() is not ModelState.ACTIVE


def test_one_lost_detector_does_not_blame_the_candidate_but_two_do(bench: Bench) -> None:
    first = bench.serve(1)
    second = bench.fetch(2)
    for losses in (1, 2):
        bench.tick()
        assert bench.tick() is ModelState.PROBATION
        assert bench.device.read().candidate == second
        bench.detector.health.losses = losses
        bench.tick()
    bench.tick()
    state = bench.device.read()
    assert (state.current, state.candidate) == (first, None)
    assert "the detector was lost" in state.bad[second]


def test_a_model_that_the_detector_refuses_never_serves(bench: Bench) -> None:
    first = bench.serve(1)
    bench.detector.refuses["colours-v2"] = "the Edge TPU cannot load it"
    second = bench.fetch(2)
    bench.tick()
    bench.tick()
    bench.tick()
    assert bench.device.read().current == first
    assert "cannot load it" in bench.device.read().bad[second]


def test_a_rejected_release_is_not_fetched_again(bench: Bench) -> None:
    bench.serve(1)
    bench.detector.refuses["colours-v2"] = "no"
    bench.fetch(2)
    bench.tick()
    bench.tick()
    expected = ExpectedRelease(NAMESPACE, MODEL, Verify.DIGEST_ONLY)
    fetcher = ReleaseDownloader(bench.bucket, bench.device, expected, CHANNEL)
    assert fetcher.poll(None, lambda _: None)[0] is PollResult.REFUSED_BEFORE


def test_the_match_holds_a_new_model_back(bench: Bench) -> None:
    bench.serve(1)
    bench.locked = True
    bench.fetch(2)
    assert bench.tick() is ModelState.DEFERRED
    assert bench.tick(600.0) is ModelState.DEFERRED
    assert bench.detector.active is not None
    assert bench.detector.active.name == "colours-v1"
    bench.locked = False
    bench.tick()
    assert bench.tick() is ModelState.PROBATION


def test_the_cached_model_serves_after_a_reboot_without_any_store(bench: Bench, tmp_path: Path) -> None:
    bench.serve(1)
    bench.bucket = DirStore(tmp_path / "gone")
    bench.restart()
    assert bench.tick() is ModelState.ACTIVE


def test_a_candidate_that_took_the_device_down_twice_is_given_up(bench: Bench) -> None:
    first = bench.serve(1)
    second = bench.fetch(2)
    for _ in range(2):
        bench.tick()
        assert bench.device.read().candidate == second
        bench.restart()
        bench.tick()
    state = bench.device.read()
    assert (state.current, state.candidate) == (first, None)
    assert "stopped 2 times" in state.bad[second]
    assert bench.detector.active is not None
    assert bench.detector.active.name == "colours-v1"


def test_a_damaged_current_release_gives_way_to_the_one_before(bench: Bench) -> None:
    first = bench.serve(1)
    second = bench.serve(2)
    blob = bench.device.blob_path(bench.device.manifest(second).files[0].sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"worn")
    bench.restart()
    assert bench.device.read().current == first
    assert "were damaged" in (bench.device.read().last_refusal or "")
    assert bench.detector.active is not None
    assert bench.detector.active.name == "colours-v1"


def damage(device: ReleaseStore, release: str, what: str) -> None:
    """Flips a byte of a release's manifest, model or label map, or removes all releases from the card."""
    manifest = device.root / "releases" / release / "manifest.json"
    roles = {"model": Role.MODEL_INT8, "labels": Role.LABELS}
    if what == "releases":
        shutil.rmtree(device.root / "releases")
        return
    item = device.manifest(release).file(roles[what]) if what in roles else None
    path = manifest if item is None else device.blob_path(item.sha256)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("versions", [(1,), (1, 2)], ids=["one release", "two releases"])
@pytest.mark.parametrize("what", ["manifest", "model", "labels", "releases"])
def test_E15_a_release_that_the_card_lost_comes_again_within_one_poll(
    bench: Bench, what: str, versions: tuple[int, ...]
) -> None:
    for version in versions:
        served = bench.serve(version)
    damage(bench.device, served, what)
    bench.restart()
    assert "were damaged" in (bench.device.read().last_refusal or "")
    assert bench.serve(versions[-1]) == served
    assert bench.device.read().last_refusal is None
    assert bench.detector.active is not None
    assert bench.detector.active.digest == served
    # The highest sequence is not forgotten: another manifest of it, or of an earlier one, is refused as before.
    for version in versions:
        publish(bench.bucket, version, model=colour_detector() + b"other")
        with pytest.raises(Refusal, match="refused: sequence"):
            bench.downloader().poll(None, lambda _: None)


def test_E15_a_release_that_is_lost_while_it_serves_comes_again_although_the_channel_is_unchanged(
    bench: Bench,
) -> None:
    served = bench.serve(1)
    report = DeviceReport(NAMESPACE, MODEL, "pi", "Active", "1970-01-01T00:00:00Z", CHANNEL)
    poller = ReleasePoller(bench.downloader(), PollSchedule(30.0), report=lambda: report, report_seconds=60.0)
    poller.step(0.0)
    assert poller.status.last_result == PollResult.CURRENT
    poller.step(100.0)
    assert poller.status.last_result == PollResult.UNCHANGED
    damage(bench.device, served, "model")
    # The detector was replaced, and its model is loaded from the card again.
    bench.activation = ActivationController(bench.device, bench.detector)  # type: ignore[arg-type]
    bench.tick()
    assert bench.device.read().current is None
    poller.step(200.0)
    assert poller.status.last_result == PollResult.STAGED
    assert bench.device.read().candidate == served


def test_where_nothing_proven_is_left_the_factorys_model_serves(bench: Bench, tmp_path: Path) -> None:
    release = bench.serve(1)
    bench.device.blob_path(bench.device.manifest(release).files[0].sha256).unlink()
    bench.factory = LoadedModelSpec("factory", "ff", 0, ("a",), (0.5,), tmp_path / "factory.tflite")
    bench.restart()
    assert bench.detector.active is bench.factory


def test_rollback_pins_the_release_before(bench: Bench) -> None:
    first = bench.serve(1)
    bench.serve(2)
    assert "done" in bench.activation.change_by_user(release_state.roll_back)
    bench.tick()
    state = bench.device.read()
    assert (state.current, state.pinned) == (first, first)
    assert bench.detector.active is not None
    assert bench.detector.active.name == "colours-v1"
    publish(bench.bucket, 3)
    expected = ExpectedRelease(NAMESPACE, MODEL, Verify.DIGEST_ONLY)
    fetcher = ReleaseDownloader(bench.bucket, bench.device, expected, CHANNEL)
    assert fetcher.poll(None, lambda _: None)[0] is PollResult.PINNED


def test_there_is_nothing_to_roll_back_to_at_first(bench: Bench) -> None:
    bench.serve(1)
    assert "no earlier release" in bench.activation.change_by_user(release_state.roll_back)


def test_a_current_model_that_cannot_be_loaded_is_loaded_again_later(bench: Bench) -> None:
    bench.serve(1)
    bench.detector.refuses["colours-v1"] = "the device is busy"
    bench.restart()
    pending = len(bench.detector.pending)
    for _ in range(10):
        bench.tick()
    assert len(bench.detector.pending) == pending
    bench.detector.refuses.clear()
    bench.tick(RELOAD_SECONDS + 1)
    bench.tick()
    assert bench.tick() is ModelState.ACTIVE


def test_a_worker_that_died_while_it_loaded_does_not_blame_the_current_model(bench: Bench) -> None:
    """A brown-out at power-on: the release is loaded again; it is not refused, and nothing is pinned."""
    bench.serve(1)
    second = bench.serve(2)
    bench.detector.refuses["colours-v2"] = DetectorLost("the process ended (SIGABRT)")
    bench.restart()
    for _ in range(4):
        bench.tick()
    bench.detector.refuses.clear()
    for _ in range(8):
        bench.tick()
    state = bench.device.read()
    assert (state.current, state.pinned, dict(state.bad)) == (second, None, {})
    assert bench.tick() is ModelState.ACTIVE


def test_a_release_that_kills_every_detector_gives_way_without_a_pin(bench: Bench) -> None:
    first = bench.serve(1)
    second = bench.serve(2)
    bench.detector.refuses["colours-v2"] = DetectorLost("the process ended (SIGSEGV)")
    bench.restart()
    for _ in range(60):
        bench.tick()
    state = bench.device.read()
    assert (state.current, state.previous, state.pinned) == (first, None, None)
    assert "SIGSEGV" in state.bad[second]
    assert bench.tick() is ModelState.ROLLED_BACK
    assert bench.fetch(3)


def test_an_accelerator_that_is_not_there_is_never_blamed_on_a_model(bench: Bench) -> None:
    """The Edge TPU alone is allowed, and not plugged in: neither the current release nor the candidate is refused."""
    bench.serve(1)
    second = bench.serve(2)
    missing = ModelRefused("no Edge TPU answers (0 listed)", missing=True)
    bench.detector.refuses.update({"colours-v1": missing, "colours-v2": missing, "colours-v3": missing})
    bench.restart()
    third = bench.fetch(3)
    for _ in range(200):
        bench.tick()
    state = bench.device.read()
    assert (state.current, state.candidate, dict(state.bad)) == (second, third, {})
    assert state.attempts == 0
    bench.detector.refuses.clear()
    bench.tick(RELOAD_SECONDS + 1)
    bench.tick()
    assert bench.tick() is ModelState.PROBATION


def test_a_pin_that_comes_between_poll_and_commit_wins(bench: Bench) -> None:
    first = bench.serve(1)
    second = bench.fetch(2)
    state = bench.device.change(release_state.pin)
    assert release_state.commit(state, second, model="local/colours", sequence=2) == state
    assert state.current == first


def test_garbage_is_what_no_kept_release_needs(bench: Bench) -> None:
    releases = [bench.serve(version) for version in (1, 2, 3)]
    bench.device.collect_garbage()
    folders = {folder.name for folder in (bench.device.root / "releases").iterdir()}
    assert folders == set(releases[1:])
    for release in releases[1:]:
        bench.device.check(release)
    models = {bench.device.manifest(release).files[0].sha256 for release in releases[1:]}
    others = {item.sha256 for item in bench.device.manifest(releases[1]).files[1:]}
    assert {blob.name for blob in (bench.device.root / "blobs" / "sha256").iterdir()} == models | others


def test_a_full_card_keeps_what_serves(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.serve(1)
    bench.fetch(2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.device, "change", full)
    with pytest.raises(OSError, match="No space left"):
        bench.tick()
    assert bench.detector.active is not None
    assert bench.detector.active.name == "colours-v1"


def test_a_read_only_card_still_boots_the_cached_model(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.serve(1)

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(bench.device, "change", read_only)
    bench.restart()
    assert bench.tick() is ModelState.ACTIVE


def test_the_list_of_bad_releases_is_bounded() -> None:
    state = release_state.DeviceState(current="c")
    for number in range(100):
        state = release_state.refuse(state, f"r{number}", "no")
    assert len(state.bad) == release_state.MAX_BAD
    assert "r99" in state.bad
