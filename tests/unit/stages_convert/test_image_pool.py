"""Pictures are prepared in threads or in processes; what comes out is the same, and a worker's end has a reason."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from atoll_contract.convert_spec import ConvertSpec, DatasetLimits
from atoll_contract.errors import AtollError, DatasetError, Reason
from atoll_stages.convert import image_pool
from atoll_stages.convert.image_pool import MANY_BYTES, TASK_IMAGES, ImagePool
from atoll_stages.convert.pipeline import Source, read_dataset, summarize
from atoll_stages.convert.prepared import ImageFile
from atoll_stages.convert.shards import write_shards
from support.archives import coco, encoded, jpeg, packed, picture, supervisely

LIMITS = DatasetLimits()
DEADLINE_SECONDS = 60


@pytest.fixture(autouse=True)
def few_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that processes start for a small archive."""
    monkeypatch.setattr(image_pool, "MANY_BYTES", 1)


def records(archives: list[Path], work: Path, workers: int) -> tuple[dict[str, str], list[object]]:
    """The digests of all records, and the problems in their order."""
    sources = [Source(path.name, path) for path in archives]
    with read_dataset(sources, ConvertSpec(sources=(), max_invalid_percent=50), work, workers=workers) as conversion:
        summary = summarize(conversion)
        names = [source.name for source in sources]
        files = [
            file
            for split in summary.statistics.splits
            for file in write_shards(conversion.store, split, work, classes=summary.classes, sources=names)
        ]
        return {file.name: file.sha256 for file in files}, list(conversion.problems.listed)


def test_any_number_of_workers_gives_the_same_records_and_problems(tmp_path: Path) -> None:
    files = supervisely(5 * TASK_IMAGES)
    files["game/ds0/img/frame_00003.jpg"] = b"no picture"
    files["game/ds0/img/frame_00040.jpg"] = files["game/ds0/img/frame_00040.jpg"][:500]
    files["game/ds0/img/frame_00050.jpg"] = encoded(picture(50), "PNG")
    files["game/ds0/img/frame_00060.jpg"] = files["game/ds0/img/frame_00061.jpg"]
    archives = [tmp_path / "a.tar", tmp_path / "b.zip"]
    archives[0].write_bytes(packed(files, ".tar"))
    archives[1].write_bytes(packed(coco(20, first=500), ".zip"))
    alone = records(archives, tmp_path / "one", 1)
    assert len(alone[1]) >= 4
    assert records(archives, tmp_path / "three", 3) == alone


def test_the_first_picture_that_is_too_large_ends_the_conversion(tmp_path: Path) -> None:
    files = supervisely(3 * TASK_IMAGES)
    for number in (20, 40):
        files[f"game/ds0/img/frame_{number:05d}.jpg"] = encoded(picture(1).resize((20_000, 9)), "PNG")
    archive = tmp_path / "a.tar"
    archive.write_bytes(packed(files, ".tar"))
    for workers in (1, 2):
        with pytest.raises(DatasetError, match=r"frame_00020\.jpg.* is 20000×9") as caught:
            records([archive], tmp_path / str(workers), workers)
        assert caught.value.reason is Reason.DATASET_TOO_LARGE


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[ImagePool]:
    with closing(ImagePool(tmp_path, LIMITS, 2)) as made:
        yield made


def test_a_killed_worker_is_told_as_lack_of_memory(tmp_path: Path, pool: ImagePool) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(1))
    pool.expect(MANY_BYTES)
    pool.submit([ImageFile(1, "a.jpg", str(path))])
    (found,) = pool.collect(block=True)
    assert found.image is not None
    os.kill(int(found.image.pack.partition("-")[0]), signal.SIGKILL)
    with pytest.raises(AtollError, match="was killed, most likely for lack of memory") as caught:
        use_until_broken(pool, path)
    assert caught.value.reason is Reason.OUT_OF_MEMORY


def test_workers_have_ended_when_a_finished_pool_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(1))
    with closing(ImagePool(tmp_path, LIMITS, 2)) as pool:
        pool.expect(MANY_BYTES)
        pool.submit([ImageFile(1, "a.jpg", str(path))])
        (found,) = pool.collect(block=True)
        assert found.image is not None
        worker = int(found.image.pack.partition("-")[0])
        pool.finish()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def use_until_broken(pool: ImagePool, path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        pool.submit([ImageFile(1, "a.jpg", str(path))])
        pool.collect(block=True)


def test_few_bytes_are_read_in_threads(tmp_path: Path, pool: ImagePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_pool, "MANY_BYTES", MANY_BYTES)
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(1))
    pool.expect(MANY_BYTES - 1)
    pool.submit([ImageFile(1, "a.jpg", str(path))])
    (found,) = pool.collect(block=True)
    assert found.image is not None
    assert found.image.pack.partition("-")[0] == str(os.getpid())


def test_a_part_of_a_file_is_a_picture_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "two"
    path.write_bytes(b"before" + jpeg(1) + b"behind")
    assert ImageFile(1, "a.jpg", str(path), 6, len(jpeg(1))).read() == jpeg(1)
