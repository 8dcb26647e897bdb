"""A conversion by several processes over one store: the same data set, however many there are and whichever die."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import ExitCode
from atoll_contract.keys import RunRef
from atoll_contract.store import open_store
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_stages.convert import batches, sharding
from atoll_stages.convert.batches import BatchStore, ShardPlan
from atoll_stages.convert.image_pool import ImagePool
from atoll_stages.convert.prepared import ImageFile, PreparedFile, prepare_files
from atoll_stages.convert.sharding import ShardedImages, SharedPlan
from support.archives import coco, encoded, jpeg, packed, picture, supervisely
from support.convert_stage import ConvertStage, Ended

RUN = RunRef("team", "run", "uid-1")
DIGEST = "d1"
LIMITS = DatasetLimits()


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_FILES", 8)
    monkeypatch.setattr(sharding, "BATCH_FILES", 8)
    monkeypatch.setattr(sharding, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(sharding, "BEAT_SECONDS", 0.05)


def exports() -> dict[str, bytes]:
    files = supervisely(60)
    files["game/ds0/img/frame_00003.jpg"] = b"no picture"
    files["game/ds0/img/frame_00040.jpg"] = files["game/ds0/img/frame_00040.jpg"][:500]
    files["game/ds0/img/frame_00050.jpg"] = encoded(picture(50), "PNG")
    files["game/ds0/img/frame_00055.jpg"] = files["game/ds0/img/frame_00056.jpg"]
    return {"a.tar": packed(files, ".tar"), "b.zip": packed(coco(20, first=500), ".zip")}


def converted(folder: Path, archives: dict[str, bytes], *, shards: int | None, others: int) -> tuple[bytes, Ended, str]:
    """The data set without the archives' ETags, which are of the copies in this folder."""
    stage = ConvertStage(folder, others=others)
    for name, data in archives.items():
        stage.put(name, data)
    ended = stage.run(shards=shards, max_invalid_percent=50)
    assert ended.code == ExitCode.OK, ended.message
    data = (ended.store / ended.result.outputs[0].key).read_bytes()
    return re.sub(rb'"etag":"[^"]*"', b"", data), ended, " ".join(stage.shard_messages)


def test_every_number_of_shards_gives_the_same_data_set(tmp_path: Path) -> None:
    archives = exports()
    alone, _, _ = converted(tmp_path / "one", archives, shards=None, others=0)
    for shards in (2, 4):
        found, ended, said = converted(tmp_path / str(shards), archives, shards=shards, others=shards - 1)
        assert found == alone
        assert all(shard.sha256 for part in ended.dataset().splits.values() for shard in part.shards)
        assert len(re.findall(r"as shard \d", said)) == shards - 1


def test_index_0_does_alone_what_no_shard_takes(tmp_path: Path) -> None:
    archives = exports()
    alone, _, _ = converted(tmp_path / "one", archives, shards=None, others=0)
    assert converted(tmp_path / "four", archives, shards=4, others=0)[0] == alone


def test_data_that_cannot_be_used_ends_all_shards(tmp_path: Path) -> None:
    stage = ConvertStage(tmp_path, others=2).put("a.tar", b"no archive")
    ended = stage.run(shards=3)
    assert ended.code == ExitCode.DATASET_MALFORMED


class CountingPool(ImagePool):
    """Notes the files that this process prepares."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, LIMITS, 1)
        self.prepared: list[int] = []

    def submit(self, files: Sequence[ImageFile]) -> None:
        self.prepared += [file.id for file in files]
        super().submit(files)


def batch_store(root: Path, scratch: Path) -> BatchStore:
    return BatchStore(open_store(StoreSpec(StoreType.DIRECTORY, path=str(root))), RUN, scratch)


@pytest.fixture
def store(tmp_path: Path) -> BatchStore:
    return batch_store(tmp_path / "store", tmp_path / "scratch")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[CountingPool]:
    (tmp_path / "packs").mkdir()
    with closing(CountingPool(tmp_path / "packs")) as made:
        yield made


def files(tmp_path: Path, count: int) -> list[ImageFile]:
    found = []
    for number in range(1, count + 1):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(jpeg(number))
        found.append(ImageFile(number, path.name, str(path)))
    return found


def collected(images: ShardedImages) -> list[PreparedFile]:
    found: list[PreparedFile] = []
    while not images.is_idle:
        found += images.collect(block=True)
    return found


def prepare_batch(store: BatchStore, number: int, given: Sequence[ImageFile], folder: Path) -> None:
    """As another shard does it."""
    folder.mkdir()
    store.put_prepared(DIGEST, number, prepare_files(given, folder / "pack", LIMITS), folder)


def test_a_later_attempt_keeps_what_shards_have_prepared(tmp_path: Path, store: BatchStore, pool: CountingPool) -> None:
    given = files(tmp_path, 24)
    prepare_batch(store, 1, given[8:16], tmp_path / "shard")
    images = ShardedImages(pool, store, DIGEST, 2)
    images.submit(given)
    found = collected(images)
    assert [item.id for item in found] == [item.id for item in given]
    assert set(pool.prepared) == {*range(1, 9), *range(17, 25)}
    reread = prepare_files(given, tmp_path / "all", LIMITS)
    for item, other in zip(found, reread, strict=True):
        assert item.image is not None
        assert other.image is not None
        assert item.image.sha256 == other.image.sha256
        assert (item.facts, item.image.thumbnail) == (other.facts, other.image.thumbnail)


def test_batches_depend_on_the_files_alone(tmp_path: Path, store: BatchStore, pool: CountingPool) -> None:
    """However the files come in, a batch has the same ones: else nothing of an earlier attempt would fit."""
    given = files(tmp_path, 20)
    images = ShardedImages(pool, store, DIGEST, 4)
    for start in range(0, 20, 3):
        images.submit(given[start : start + 3])
        images.collect(block=False)
    collected(images)
    taken = [store.take(DIGEST, number, tmp_path / "given") for number in (1, 2)]
    assert [[file.id for file in batch] for batch in taken] == [list(range(9, 17)), list(range(17, 21))]


@pytest.mark.parametrize("damage", ["cut", "bytes", "others"])
def test_a_damaged_batch_is_prepared_anew(
    tmp_path: Path, store: BatchStore, pool: CountingPool, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = files(tmp_path, 16)
    prepare_batch(store, 1, given[:8] if damage == "others" else given[8:], tmp_path / "shard")
    path = next((tmp_path / "store").rglob("00001.prepared"))
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "bytes":
        path.write_bytes(data[:-40] + bytes(40))
    images = ShardedImages(pool, store, DIGEST, 2)
    images.submit(given)
    assert [item.id for item in collected(images)] == [item.id for item in given]
    assert "batch 1 is prepared anew" in caplog.text
    assert set(pool.prepared) == set(range(1, 17))


def test_a_shard_ends_when_index_0_is_lost(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    watch = sharding._PlanWatch()
    assert not watch.is_over(None)
    assert not watch.is_over(ShardPlan(7, DIGEST))
    assert not watch.is_over(ShardPlan(8, DIGEST))
    monkeypatch.setattr(sharding, "LOST_AFTER_SECONDS", -1.0)
    assert watch.is_over(ShardPlan(8, DIGEST))
    assert "index 0 has not been heard of" in caplog.text


def test_the_plan_beats_and_ends(store: BatchStore) -> None:
    plan = SharedPlan(store, 1)
    with plan.kept():
        plan.begin(DIGEST)
        begun = store.read_plan(1)
    ended = store.read_plan(1)
    assert begun is not None
    assert ended is not None
    assert (begun.digest, begun.ended, ended.ended) == (DIGEST, False, True)
    assert ended.beats > begun.beats > 0


def test_a_shard_leaves_no_result_that_a_later_attempt_would_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = ConvertStage(tmp_path).put("a.tar", packed(supervisely(4), ".tar"))
    store = batch_store(stage.store, tmp_path / "plan")
    store.write_plan(1, ShardPlan(1, ended=True))
    shutil.rmtree(tmp_path / "plan")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    ended = stage.run_process(shards=2)
    assert (ended.code, ended.message) == (ExitCode.OK, "prepared 0 pictures as shard 1")
    assert not list(stage.store.rglob("result.json"))
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    assert stage.run_process(shards=2).code == ExitCode.INVALID_SPEC
