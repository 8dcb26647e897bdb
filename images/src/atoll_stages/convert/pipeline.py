"""The conversion from labelled archives to counted examples, for the stage, the linter and comparisons alike.

`read_dataset` extracts each archive, reads its annotations (`readers`), prepares the images (`images`), clips the boxes
(`boxes`) and puts both into the store (`example_store`). `summarize` splits the examples, counts them and warns. The
stage then writes them as TFRecord shards.
"""

import logging
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from atoll_contract.archive.extract import extract
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage import ConvertSpec, DatasetFormat, SplitBy
from atoll_stages.convert.archive_totals import add_annotated, close_totals, settle_members
from atoll_stages.convert.boxes import annotation_frame, clip_boxes
from atoll_stages.convert.classes import ClassNames
from atoll_stages.convert.duplicates import NearCounts, drop_exact_copies, report_leakage, report_near
from atoll_stages.convert.example_store import ExampleStore, PendingExample
from atoll_stages.convert.format_overlap import FormatOverlap
from atoll_stages.convert.images import PreparedImage, UnreadableImage, prepare_image
from atoll_stages.convert.meanings import bounded_warnings, problem_warnings
from atoll_stages.convert.problems import Action, InvalidBudget, Kind, Problems, counted
from atoll_stages.convert.readers import find_readers
from atoll_stages.convert.readers.base import AnnotatedImage, Archive, Reader
from atoll_stages.convert.readers.split_lists import SplitLists
from atoll_stages.convert.readers.unread import explain_no_images
from atoll_stages.convert.split import assign_splits
from atoll_stages.convert.statistics import DatasetStatistics, class_warnings, count_examples
from atoll_stages.convert.totals import SEEN, USED, Totals, require_equal

logger = logging.getLogger(__name__)

# Called with (images done, images known so far); may raise to end the work.
OnProgress = Callable[[int, int], None]

_MAX_THREADS = 8
# So many kinds of problems are told where no example is usable.
_MESSAGE_KINDS = 3


@dataclass(frozen=True)
class Source:
    """An archive or folder on this disk. `name` is what messages call it; `disposable` ones are removed once read."""

    name: str
    path: Path
    format: DatasetFormat = DatasetFormat.AUTO
    disposable: bool = False


@dataclass
class Conversion:
    """The state of one conversion. `formats` are those of the sources read so far; `sums` has the totals in the end."""

    spec: ConvertSpec
    store: ExampleStore
    names: ClassNames
    budget: InvalidBudget
    on_progress: OnProgress
    problems: Problems = field(default_factory=Problems)
    totals: Totals = field(default_factory=Totals)
    sums: dict[str, dict[str, int]] = field(default_factory=dict)
    formats: list[tuple[DatasetFormat, ...]] = field(default_factory=list)


@contextmanager
def read_dataset(
    sources: Sequence[Source], spec: ConvertSpec, work: Path, *, on_progress: OnProgress = lambda *_: None
) -> Iterator[Conversion]:
    """Reads every source into a store under `work` and drops duplicates; `summarize` is the next step.

    Raises:
        DatasetError: a source is unsafe, malformed, too large, or worse than `max_invalid_percent`; or no example is
            usable.
        AtollError: InternalError, the totals of the dataset do not add up.
    """
    with closing(ExampleStore(work / "examples")) as store:
        budget = InvalidBudget(spec.max_invalid_percent)
        conversion = Conversion(spec, store, ClassNames(spec), budget, on_progress)
        for number, source in enumerate(sources):
            problems = conversion.problems if len(sources) == 1 else conversion.problems.of_archive(source.name)
            with _naming(source):
                _read_source(conversion, number, source, problems=problems, folder=work / f"members-{number}")
        budget.check(conversion.problems)
        drop_exact_copies(store, conversion.problems)
        ignored = conversion.names.ignored.total()
        conversion.sums = close_totals(store, conversion.totals, conversion.problems, ignored=ignored)
        if next(store.examples(), None) is None:
            why = "; ".join(problem_warnings(conversion.problems)[:_MESSAGE_KINDS]) or "no annotations"
            text = f"no usable picture in {counted(len(sources), 'archive')}; {why}"
            raise DatasetError(Reason.NO_USABLE_EXAMPLES, text)
        yield conversion


@dataclass(frozen=True)
class ConversionSummary:
    """The split and counted dataset; `classes` in label-map order."""

    classes: tuple[str, ...]
    statistics: DatasetStatistics
    split_by: SplitBy
    near: NearCounts
    leaked: int
    warnings: tuple[str, ...]


def summarize(conversion: Conversion) -> ConversionSummary:
    """Splits and counts the examples, and collects warnings about them.

    Raises:
        DatasetError: NoUsableExamples, no box is left or a split would be empty.
    """
    store, names, problems = conversion.store, conversion.names, conversion.problems
    outcome = assign_splits(store, conversion.spec.split)
    if outcome.lost:
        file = next(store.examples()).name
        problems.add(Kind.SPLIT_LOST, Action.KEPT, file=file, detail=outcome.lost)
    statistics = count_examples(store)
    used = statistics.classes()
    classes = names.ordered(used)
    if not used:
        raise _no_box(conversion, statistics)
    require_equal("pictures in the split", statistics.images.total(), conversion.sums["pictures"].get(USED, 0))
    require_equal("boxes in the split", statistics.boxes.total(), conversion.sums["objects"].get(USED, 0))
    leaked = report_leakage(store, problems)
    near = report_near(store, problems)
    found = [
        *problem_warnings(problems),
        *names.rule_warnings(),
        *outcome.warnings,
        *names.warnings(used),
        *class_warnings(statistics, classes),
    ]
    if near.across_split:
        found.append(f"{counted(near.across_split, 'picture')} looking like one in another part of the split")
    return ConversionSummary(classes, statistics, outcome.by, near, leaked, bounded_warnings(found))


def _no_box(conversion: Conversion, statistics: DatasetStatistics) -> DatasetError:
    """Returns the error that no object of any class is left, with what became of those that there are."""
    names = conversion.names
    ignored = ", ".join(f"{count} of {name!r}" for name, count in names.ignored.most_common(5))
    seen = conversion.sums["objects"][SEEN]
    why = f"ignored: {ignored}" if ignored else f"none of {seen} is usable" if seen else "none was annotated"
    reasons = [*names.rule_warnings(), *problem_warnings(conversion.problems)[:_MESSAGE_KINDS]]
    return DatasetError(
        Reason.NO_USABLE_EXAMPLES,
        f"no box is left of any class in {counted(statistics.images.total(), 'picture')} ({why}); "
        + "; ".join(reasons or ["label objects, or look at classes, rename and ignore"]),
    )


@contextmanager
def _naming(source: Source) -> Iterator[None]:
    """Puts the source's name before the message of a DatasetError."""
    try:
        yield
    except DatasetError as error:
        if error.message.startswith(f"{source.name}: "):
            raise
        raise DatasetError(error.reason, f"{source.name}: {error.message}") from None


def _read_source(conversion: Conversion, number: int, source: Source, *, problems: Problems, folder: Path) -> None:
    limits = conversion.spec.limits
    with extract(source.path, folder, limits, name=source.name) as members:
        # A folder is indexed in place; an archive is not needed once it is unpacked.
        if source.disposable and source.path.is_file():
            source.path.unlink()
        for note in members.notes:
            problems.add(Kind.BYTES_UNREAD, Action.SKIPPED, file=source.name, detail=note)
        archive = Archive(source.name, members, limits, problems, conversion.totals)
        _read_annotations(conversion, number, archive, source.format)
        settle_members(conversion.store, number, archive)
        _read_images(conversion, number, problems)
    shutil.rmtree(folder)
    if source.disposable and source.path.is_dir():
        shutil.rmtree(source.path)


def _read_annotations(conversion: Conversion, number: int, archive: Archive, requested: DatasetFormat) -> None:
    used: dict[DatasetFormat, None] = {}
    readers = find_readers(archive, requested)
    images = _annotated_images(conversion, number, archive, readers, used)
    lists = SplitLists(archive, is_wanted=conversion.spec.split.by in (SplitBy.AUTO, SplitBy.DATASETS))
    for item in lists.applied(images):
        add_annotated(conversion.store, number, archive, item)
    if not used and (why := explain_no_images(archive)):
        raise DatasetError(Reason.NO_USABLE_EXAMPLES, why)
    formats = tuple(used or [reader.format for reader in readers])
    conversion.formats.append(formats)
    logger.info("%s: %d files, format %s", archive.name, len(archive.members), ", ".join(formats))


def _annotated_images(
    conversion: Conversion,
    number: int,
    archive: Archive,
    readers: Sequence[Reader],
    used: dict[DatasetFormat, None],
) -> Iterator[AnnotatedImage]:
    """Yields what the readers return, one after the other; the formats that have images are added to `used`."""
    overlap = FormatOverlap(conversion.store, number, archive)
    for reader in readers:
        overlap.begin(reader.format)
        annotations = reader.read(archive)
        conversion.names.declare(annotations.classes)
        for item in annotations.images:
            used[reader.format] = None
            if not overlap.repeats(item):
                yield item


def _read_images(conversion: Conversion, number: int, problems: Problems) -> None:
    """Prepares the images of a source in threads (Pillow releases the interpreter lock) and stores them in order."""
    threads = min(_MAX_THREADS, _available_cores())
    queue: deque[tuple[PendingExample, Future[PreparedImage]]] = deque()
    known, budget = conversion.store.count(), conversion.budget
    with ThreadPoolExecutor(threads) as pool, _without_pillow_warnings():
        try:
            for pending in conversion.store.pending(number):
                task = pool.submit(prepare_image, pending.path, name=pending.name, limits=conversion.spec.limits)
                queue.append((pending, task))
                if len(queue) > 2 * threads:
                    _store_image(conversion, *queue.popleft(), problems)
                    conversion.on_progress(budget.images, known)
            while queue:
                _store_image(conversion, *queue.popleft(), problems)
        finally:
            for _, task in queue:
                task.cancel()
    conversion.on_progress(budget.images, known)


def _store_image(
    conversion: Conversion, pending: PendingExample, task: "Future[PreparedImage]", problems: Problems
) -> None:
    """Stores a prepared image with its boxes, or drops its example."""
    store = conversion.store
    conversion.budget.images += 1
    try:
        image = task.result()
    except UnreadableImage as error:
        problems.add(Kind.IMAGE_UNREADABLE, Action.SKIPPED, file=pending.name, detail=str(error))
        store.drop(pending.id, Kind.IMAGE_UNREADABLE)
        return
    if image.misnamed_as:
        problems.add(Kind.IMAGE_MISNAMED, Action.KEPT, file=pending.name, detail=f"it is {image.misnamed_as}")
    if image.is_first_frame:
        problems.add(Kind.IMAGE_FIRST_FRAME, Action.KEPT, file=pending.name, detail="the other frames are not read")
    frame = annotation_frame(pending.size, image, relative=pending.relative)
    if frame is None:
        claimed, real = pending.size or (0, 0), image.stored_size
        detail = f"annotated as {claimed[0]}×{claimed[1]}, the picture is {real[0]}×{real[1]}"
        problems.add(Kind.SIZE_MISMATCH, Action.SKIPPED, file=pending.annotation, detail=detail)
        store.drop(pending.id, Kind.SIZE_MISMATCH)
        return
    if frame.scaled:
        detail = f"boxes scaled from {frame.width:g}×{frame.height:g}"
        problems.add(Kind.SIZE_SCALED, Action.SCALED, file=pending.annotation, detail=detail)
    boxes = clip_boxes(pending.boxes, frame, file=pending.annotation, names=conversion.names, problems=problems)
    conversion.budget.boxes += len(boxes)
    store.complete(pending.id, image, boxes)


def _available_cores() -> int:
    """Returns the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _without_pillow_warnings() -> Iterator[None]:
    """Silences Pillow's warnings about odd EXIF data; an image that cannot be read is counted as a problem anyway."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        yield
