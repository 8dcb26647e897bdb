"""Which reader reads an archive."""

import logging
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from atoll_contract.archive.extract import extract
from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage import ConvertSpec, DatasetFormat
from atoll_stages.convert.classes import ClassNames
from atoll_stages.convert.duplicates import drop_exact
from atoll_stages.convert.example import PICTURE_SUFFIXES, Archive, Reading
from atoll_stages.convert.example_store import Catalog, Waiting, fit_boxes, frame_of
from atoll_stages.convert.images import Picture, Unreadable, read_picture
from atoll_stages.convert.problems import Action, Kind, Problems, Tally, counted
from atoll_stages.convert.readers import coco, supervisely, tfod_csv, voc, yolo
from atoll_stages.convert.tfrecord import read_records


@dataclass(frozen=True)
class Reader:
    """A format: how to tell it, how to read it, and what an archive of it has, for messages."""

    detects: Callable[[Archive], bool]
    read: Callable[[Archive], Reading]
    has: str


# In this order: the first that an archive shows is taken.
READERS = {
    DatasetFormat.SUPERVISELY: Reader(supervisely.detects, supervisely.read, "<dataset>/ann/<picture>.json"),
    DatasetFormat.TFOD_CSV: Reader(tfod_csv.detects, tfod_csv.read, "_annotations.csv"),
    DatasetFormat.COCO: Reader(coco.detects, coco.read, "a .json with images, annotations and categories"),
    DatasetFormat.VOC: Reader(voc.detects, voc.read, "an .xml for each picture"),
    DatasetFormat.YOLO: Reader(
        yolo.detects, yolo.read, "data.yaml, classes.txt or obj.names, and a .txt for each picture"
    ),
}


def reader_of(archive: Archive, asked: DatasetFormat) -> tuple[DatasetFormat, Reader]:
    """The format asked for, or the one that the archive shows.

    Raises:
        DatasetError: DatasetMalformed, it shows none, or not the one asked for.
    """
    for name, reader in READERS.items():
        if asked in (DatasetFormat.AUTO, name) and reader.detects(archive):
            return name, reader
    _explain_records(archive)
    looked = "; ".join(
        f"{name}: {reader.has}" for name, reader in READERS.items() if asked in (DatasetFormat.AUTO, name)
    )
    raise DatasetError(
        Reason.DATASET_MALFORMED,
        f"{archive.name}: no labels of a known format among {len(archive.members)} files; looked for {looked}",
    )


def _explain_records(archive: Archive) -> None:
    """TFRecord files are Atoll's output. Who uploads them is told so, and whether they are whole."""
    for member in archive.members.with_suffix(".tfrecord", ".tfrecords", ".record"):
        with member.path.open("rb") as file:
            count = sum(1 for _ in read_records(file, name=shown(member.name)))
        raise DatasetError(
            Reason.DATASET_MALFORMED,
            f"{archive.name}: {shown(member.name)} holds {count} TFRecords, which Atoll writes but does not read; "
            "upload the pictures and labels they were made from",
        )


logger = logging.getLogger(__name__)

# Called with (pictures done, pictures known so far); may raise to end the work.
Tick = Callable[[int, int], None]

_MAX_WORKERS = 8
_IGNORED_FOLDERS = (
    "masks_human",
    "masks_machine",
    "masks_instances",
    "__MACOSX",
    "SegmentationClass",
    "SegmentationObject",
)


@dataclass(frozen=True)
class Source:
    """An archive or folder on this disk. `name` is what messages call it."""

    name: str
    path: Path
    format: DatasetFormat = DatasetFormat.AUTO
    # Whether it is ours, and may go as soon as it is read.
    disposable: bool = False


@dataclass
class Conversion:
    """One conversion under way: what was found so far. Use as `with Conversion.start(…)`."""

    spec: ConvertSpec
    catalog: Catalog
    names: ClassNames
    problems: Problems
    tally: Tally
    formats: list[DatasetFormat]
    tick: Tick


@contextmanager
def collected(
    sources: Sequence[Source], spec: ConvertSpec, work: Path, *, tick: Tick = lambda *_: None
) -> Iterator[Conversion]:
    """Read every source and every picture into a catalogue under `work`; duplicates dropped, nothing split yet.

    Raises:
        DatasetError: unsafe, malformed, too large, or worse than `max_invalid_percent`.
    """
    with Catalog(work / "catalog") as catalog:
        conversion = Conversion(spec, catalog, ClassNames(spec), Problems(), Tally(), [], tick)
        for number, source in enumerate(sources):
            problems = conversion.problems if len(sources) == 1 else conversion.problems.within(source.name)
            with _naming(source):
                _read_source(conversion, number, source, problems=problems, folder=work / f"members-{number}")
        conversion.tally.require(conversion.problems, spec.max_invalid_percent)
        drop_exact(catalog, conversion.problems)
        if catalog.count("ready") == 0:
            raise DatasetError(
                Reason.NO_USABLE_EXAMPLES,
                f"no usable picture in {counted(len(sources), 'archive')}; {_what_was_met(conversion)}",
            )
        yield conversion


@contextmanager
def _naming(source: Source) -> Iterator[None]:
    """Errors of the data say in which archive."""
    try:
        yield
    except DatasetError as error:
        if error.message.startswith(f"{source.name}: "):
            raise
        raise DatasetError(error.reason, f"{source.name}: {error.message}") from None


def _read_source(conversion: Conversion, number: int, source: Source, *, problems: Problems, folder: Path) -> None:
    limits = conversion.spec.limits
    with extract(source.path, folder, limits, name=source.name) as members:
        # A folder is indexed where it lies; an archive is of no use once it is unpacked.
        if source.disposable and source.path.is_file():
            source.path.unlink()
        archive = Archive(source.name, members, limits, problems)
        name, reader = reader_of(archive, source.format)
        conversion.formats.append(name)
        logger.info("%s: %d files, format %s", source.name, len(members), name)
        reading = reader.read(archive)
        conversion.names.declare(reading.classes)
        for example in reading.examples:
            if not conversion.catalog.add(number, example):
                problems.add(
                    Kind.ANNOTATION_DUPLICATE, Action.SKIPPED, file=example.annotation, detail=example.picture.name
                )
        _report_unannotated(conversion.catalog, number, archive)
        _read_pictures(conversion, number, problems)
    shutil.rmtree(folder)
    if source.disposable and source.path.is_dir():
        shutil.rmtree(source.path)


def _report_unannotated(catalog: Catalog, number: int, archive: Archive) -> None:
    for member in archive.members.with_suffix(*PICTURE_SUFFIXES):
        parts = PurePosixPath(member.name).parts
        if member.base.startswith("._") or any(part in _IGNORED_FOLDERS for part in parts):
            continue
        if not catalog.has_picture(number, member.number):
            archive.problems.add(
                Kind.ANNOTATION_MISSING, Action.SKIPPED, file=member.name, detail="no annotation names this picture"
            )


def _read_pictures(conversion: Conversion, number: int, problems: Problems) -> None:
    """Decode and re-encode in threads (Pillow works outside the interpreter lock), settle in order."""
    workers = min(_MAX_WORKERS, _cores())
    queue: deque[tuple[Waiting, Future[Picture]]] = deque()
    known = conversion.catalog.count()
    with ThreadPoolExecutor(workers) as pool, _without_pillow_warnings():
        try:
            for waiting in conversion.catalog.waiting(number):
                task = pool.submit(read_picture, waiting.path, name=waiting.name, limits=conversion.spec.limits)
                queue.append((waiting, task))
                if len(queue) > 2 * workers:
                    _settle(conversion, *queue.popleft(), problems)
                    conversion.tick(conversion.tally.pictures, known)
            while queue:
                _settle(conversion, *queue.popleft(), problems)
        finally:
            for _, task in queue:
                task.cancel()
    conversion.tick(conversion.tally.pictures, known)


def _settle(conversion: Conversion, waiting: Waiting, task: "Future[Picture]", problems: Problems) -> None:
    catalog = conversion.catalog
    conversion.tally.pictures += 1
    try:
        picture = task.result()
    except Unreadable as error:
        problems.add(Kind.PICTURE_UNREADABLE, Action.SKIPPED, file=waiting.name, detail=str(error))
        catalog.drop(waiting.id, "unreadable")
        return
    if picture.misnamed_as:
        problems.add(Kind.PICTURE_MISNAMED, Action.KEPT, file=waiting.name, detail=f"it is {picture.misnamed_as}")
    frame = frame_of(waiting, picture)
    if frame is None:
        claimed, real = waiting.size or (0, 0), picture.stored_size
        detail = f"annotated as {claimed[0]}×{claimed[1]}, the picture is {real[0]}×{real[1]}"
        problems.add(Kind.SIZE_MISMATCH, Action.SKIPPED, file=waiting.annotation, detail=detail)
        catalog.drop(waiting.id, "mismatch")
        return
    if frame.scaled:
        detail = f"boxes scaled from {frame.width:g}×{frame.height:g}"
        problems.add(Kind.SIZE_SCALED, Action.SCALED, file=waiting.annotation, detail=detail)
    boxes = fit_boxes(waiting, frame, names=conversion.names, problems=problems)
    conversion.tally.boxes += len(boxes)
    catalog.keep(waiting.id, picture, boxes)


def _cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _without_pillow_warnings() -> Iterator[None]:
    """Pillow warns of odd EXIF data and the like; what matters of it is counted as a problem."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        yield


def _what_was_met(conversion: Conversion) -> str:
    counts = conversion.problems.counts
    return ", ".join(f"{kind}: {count}" for kind, count in counts.most_common(5)) or "no annotations"
