"""From a result to the bucket: never in a match, within the card's bounds, retried, and idempotent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atoll_contract.document import from_json
from atoll_contract.harvest import HarvestNote
from atoll_contract.store.base import ObjectInfo, StoreUnavailable
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_edge.config import CameraConfig, EdgeConfig, HarvestConfig, ModelConfig
from atoll_edge.harvest.harvester import Harvester, make_harvester
from atoll_edge.harvest.spool import Destination, Spool, SpoolUploader
from atoll_edge.robot.topics import Match
from support.harvested_frames import LABELS, answer, detection, scene

OFF, ENABLED, FIELD = Match(False, False), Match(True, False), Match(False, True)
UNCERTAIN = detection(0.5)
ON = HarvestConfig(enabled=True)


class Bucket(DirStore):
    """A bucket whose network can fail, before a request or before its response; counts the requests."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gone: Exception | None = None
        self.lost_answers = 0
        self.puts = 0

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        self.puts += 1
        if self.gone is not None:
            raise self.gone
        info = super().put(key, data, if_absent=if_absent, if_match=if_match)
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreUnavailable("connection reset")
        return info

    def names(self) -> list[str]:
        return [info.key for info in self.list("")]


@dataclass
class Bench:
    """A harvester whose clock and match the test owns."""

    folder: Path
    wanted: HarvestConfig = ON
    match: Match = OFF
    now: float = 0.0
    seed: int = 0
    free: int = 2**40
    bucket: Bucket = field(init=False)

    def __post_init__(self) -> None:
        store = StoreSpec(StoreType.DIRECTORY, path=str(self.folder / "bucket"))
        model = ModelConfig("local", "colours", store)
        config = EdgeConfig(
            device="pi-front", state_dir=str(self.folder), camera=CameraConfig(name="front"), model=model
        )
        self.bucket = Bucket(self.folder / "bucket")
        self.spool = Spool(
            self.folder / "harvest",
            max_bytes=self.wanted.max_mebibytes * 2**20,
            min_free_bytes=self.wanted.min_free_mebibytes * 2**20,
            free=lambda _: self.free,
        )
        self.harvester = Harvester(
            config, self.wanted, model, match=lambda: self.match, spool=self.spool, clock=lambda: 1_800_000_000.0
        )
        destination = Destination(self.bucket, "local", "pi-front")
        self.uploader = SpoolUploader(self.spool, destination, allowed=lambda: not self.match.locked)

    def interval(self, *, seconds: float = 10_000_000.0) -> None:
        """One uncertain frame of a new scene, and the time until it is kept."""
        self.seed += 1
        self.harvester.on_frame("front", scene(self.seed), answer(UNCERTAIN))
        self.now += seconds
        self.harvester.keep(self.now)

    def upload(self, *, turns: int = 1, seconds: float = 2.0) -> None:
        for _ in range(turns):
            self.now += seconds
            self.uploader.step(self.now)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_is_off_by_default(tmp_path: Path) -> None:
    store = StoreSpec(StoreType.DIRECTORY, path=str(tmp_path))
    config = EdgeConfig(state_dir=str(tmp_path / "device"), model=ModelConfig("local", "colours", store))
    assert make_harvester(config, lambda: OFF) is None
    assert not (tmp_path / "device").exists()


def test_an_uncertain_frame_reaches_the_bucket_with_its_result(bench: Bench) -> None:
    bench.interval()
    bench.upload()
    note_key, image_key = sorted(bench.bucket.names(), key=lambda key: not key.endswith(".json"))
    read = from_json(HarvestNote, bench.bucket.get(note_key))
    image = bench.bucket.get(image_key)
    assert image_key == f"harvest/local/pi-front/{read.sha256}.jpg"
    assert image.startswith(b"\xff\xd8\xff")
    assert (read.device, read.camera, read.model, read.release, read.digest) == (
        "pi-front", "front", "colours", "colours-v3", "d" * 64,
    )  # fmt: skip
    assert (read.width, read.height, read.size, read.labels) == (64, 64, len(image), LABELS)
    assert (read.detections, read.doubt, read.taken_at) == ((UNCERTAIN,), 1.0, "2027-01-15T08:00:00Z")
    assert bench.spool.frames == 0


def test_frames_of_one_session_are_numbered(bench: Bench) -> None:
    for _ in range(3):
        bench.interval()
    bench.upload(turns=3)
    notes = [from_json(HarvestNote, bench.bucket.get(key)) for key in bench.bucket.names() if key.endswith(".json")]
    assert sorted(item.number for item in notes) == [1, 2, 3]
    assert len({item.session for item in notes}) == 1
    other = Bench(bench.folder / "other")
    other.interval()
    other.upload()
    [key] = [key for key in other.bucket.names() if key.endswith(".json")]
    assert from_json(HarvestNote, other.bucket.get(key)).session != notes[0].session


@pytest.mark.parametrize("match", [ENABLED, FIELD, Match(True, True)])
def test_nothing_is_kept_written_or_sent_in_a_match(bench: Bench, match: Match) -> None:
    bench.interval()
    bench.match = match
    for _ in range(5):
        bench.interval()
        bench.upload()
    assert (bench.spool.frames, bench.bucket.puts) == (1, 0)
    assert bench.harvester.status().paused
    bench.match = OFF
    bench.upload()
    assert (bench.spool.frames, bench.bucket.puts) == (0, 2)


def test_a_frame_of_before_the_match_is_written_after_it(bench: Bench) -> None:
    bench.harvester.on_frame("front", scene(7), answer(UNCERTAIN))
    bench.match = FIELD
    bench.interval()
    assert bench.spool.frames == 0
    bench.match = OFF
    bench.harvester.keep(bench.now)
    assert bench.spool.frames == 1


def test_practice_counts_where_it_is_enabled_and_a_match_never(tmp_path: Path) -> None:
    bench = Bench(tmp_path, HarvestConfig(enabled=True, while_enabled=True), match=ENABLED)
    bench.interval()
    bench.upload()
    assert (bench.spool.frames, bench.bucket.puts) == (1, 0)
    bench.match = Match(True, True)
    bench.interval()
    assert bench.spool.frames == 1


@pytest.mark.parametrize("trouble", [StoreUnavailable("no route to host"), OSError(5, "Input/output error")])
def test_an_unreachable_bucket_is_retried_with_backoff(bench: Bench, trouble: Exception) -> None:
    bench.bucket.gone = trouble
    bench.interval()
    bench.upload(turns=3600, seconds=1.0)
    assert 10 < bench.bucket.puts < 40
    assert bench.spool.frames == 1
    assert str(trouble) in str(bench.uploader.last_error)
    bench.bucket.gone = None
    bench.upload(turns=1, seconds=1000.0)
    assert (bench.spool.frames, len(bench.bucket.names())) == (0, 2)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_frame_whose_answer_was_lost_is_put_again_without_harm(bench: Bench, lost: int) -> None:
    bench.bucket.lost_answers = lost
    bench.interval()
    bench.upload(turns=5, seconds=1000.0)
    assert len(bench.bucket.names()) == 2
    assert bench.spool.frames == 0
    assert bench.uploader.uploaded == 1


def test_a_full_card_loses_frames_and_nothing_else(bench: Bench) -> None:
    bench.interval()
    bench.free = 0
    bench.interval()
    status = bench.harvester.status()
    assert (status.kept, status.failed, status.evicted, status.waiting) == (1, 1, 1, 0)
    assert status.last_error is not None
    assert "too little room" in status.last_error
    bench.free = 2**40
    bench.interval()
    assert bench.harvester.status().last_error is None
    assert bench.spool.frames == 1


def test_a_card_that_others_fill_gets_its_room_back_without_a_new_frame(bench: Bench) -> None:
    bench.interval()
    bench.free = 0
    bench.harvester.keep(bench.now)
    assert (bench.spool.frames, bench.spool.evicted) == (0, 1)


def test_a_read_only_card_is_said_and_stops_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", read_only)
    bench.interval()
    assert bench.harvester.status().last_error == "not kept: Read-only file system"
    monkeypatch.undo()
    bench.interval()
    assert bench.spool.frames == 1


def test_a_torn_frame_is_dropped_and_the_next_one_goes(bench: Bench) -> None:
    bench.interval()
    bench.interval()
    first = min((bench.folder / "harvest").glob("*.jpg"))
    first.write_bytes(b"torn")
    bench.upload(turns=2, seconds=1000.0)
    assert (bench.uploader.damaged, bench.uploader.uploaded, bench.spool.frames) == (1, 1, 0)


def test_the_bucket_gets_at_most_one_frame_a_second(bench: Bench) -> None:
    for _ in range(20):
        bench.interval()
    before = bench.now
    uploaded: Callable[[], int] = lambda: bench.uploader.uploaded  # noqa: E731
    while uploaded() < 20:
        bench.upload(seconds=0.1)
    assert bench.now - before >= 15
