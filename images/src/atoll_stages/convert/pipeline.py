"""The conversion from labelled archives to counted examples, for the stage, the linter and comparisons alike.

`read_dataset` extracts each archive, reads its annotations (`readers`), prepares the images (`images`), clips the boxes
(`boxes`) and puts both into the store (`example_store`). `summarize` splits the examples, counts them and warns. The
stage then writes them as TFRecord shards.
"""

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from atoll_contract.archive.extract import extract
from atoll_contract.convert_spec import ConvertSpec, DatasetFormat, SplitBy
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.archive_totals import add_annotated, close_totals, settle_members
from atoll_stages.convert.boxes import annotation_frame, clip_boxes
from atoll_stages.convert.classes import ClassNames
from atoll_stages.convert.duplicates import NearCounts, drop_exact_copies, report_leakage, report_near
from atoll_stages.convert.example_store import ExampleStore, PendingExample
from atoll_stages.convert.format_overlap import FormatOverlap
from atoll_stages.convert.image_pool import ImagePool, default_workers, silence_pillow
from atoll_stages.convert.image_queue import ImageQueue, Preparer
from atoll_stages.convert.meanings import bounded_warnings, problem_warnings
from atoll_stages.convert.prepared import ImageFacts
from atoll_stages.convert.problems import Action, InvalidBudget, Kind, Problems, counted
from atoll_stages.convert.readers import find_readers
from atoll_stages.convert.readers.base import IMAGE_SUFFIXES, AnnotatedImage, Archive, Reader
from atoll_stages.convert.readers.split_lists import SplitLists
from atoll_stages.convert.readers.unread import explain_no_images
from atoll_stages.convert.split import assign_splits
from atoll_stages.convert.statistics import DatasetStatistics, class_warnings, count_examples
from atoll_stages.convert.totals import SEEN, USED, Totals, require_equal

logger = logging.getLogger(__name__)

# Called with (images done, images known so far); may raise to end the work.
OnProgress = Callable[[int, int], None]

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
    pool: ImagePool
    preparer: Preparer
    progress: "ImageProgress"
    problems: Problems = field(default_factory=Problems)
    totals: Totals = field(default_factory=Totals)
    sums: dict[str, dict[str, int]] = field(default_factory=dict)
    formats: list[tuple[DatasetFormat, ...]] = field(default_factory=list)


@dataclass
class ImageProgress:
    """Counts the pictures that are prepared; `known` is how many there are, as far as archives were opened."""

    report: OnProgress
    known: int = 0
    done: int = 0

    def prepared(self, count: int) -> None:
        self.done += count
        self.report(self.done, self.known)


@contextmanager
def read_dataset(
    sources: Sequence[Source],
    spec: ConvertSpec,
    work: Path,
    *,
    on_progress: OnProgress = lambda *_: None,
    workers: int | None = None,
    share: Callable[[ImagePool], Preparer] | None = None,
) -> Iterator[Conversion]:
    """Reads every source into a store under `work` and drops duplicates; `summarize` is the next step.

    Pictures are prepared by `workers` processes or threads, by default one for each processor that may be used;
    `share` puts something before them that has other processes do a part.

    Raises:
        DatasetError: a source is unsafe, malformed, too large, or worse than `max_invalid_percent`; or no example is
            usable.
        AtollError: InternalError, the totals of the dataset do not add up.
    """
    with (
        closing(ExampleStore(work / "examples")) as store,
        closing(ImagePool(store.packs.folder, spec.limits, workers or default_workers())) as pool,
        _without_pillow_warnings(),
    ):
        budget = InvalidBudget(spec.max_invalid_percent)
        preparer = share(pool) if share else pool
        conversion = Conversion(spec, store, ClassNames(spec), budget, pool, preparer, ImageProgress(on_progress))
        # Processes start while the archives are unpacked.
        pool.expect(sum(source.path.stat().st_size for source in sources))
        for number, source in enumerate(sources):
            problems = conversion.problems if len(sources) == 1 else conversion.problems.of_archive(source.name)
            with _naming(source):
                _read_source(conversion, number, source, problems=problems, folder=work / f"members-{number}")
        pool.finish()
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
        if source.disposable and members.are_copied and source.path.is_file():
            source.path.unlink()
        for note in members.notes:
            problems.add(Kind.BYTES_UNREAD, Action.SKIPPED, file=source.name, detail=note)
        archive = Archive(source.name, members, limits, problems, conversion.totals)
        progress = conversion.progress
        conversion.pool.expect(members.total_size())
        queue = ImageQueue(conversion.store, number, conversion.preparer, progress.prepared)
        progress.known += members.count_with_suffix(*IMAGE_SUFFIXES)
        _read_annotations(conversion, number, archive, source.format, queue)
        settle_members(conversion.store, number, archive)
        progress.known = conversion.store.count()
        _store_images(conversion, queue, problems)
    shutil.rmtree(folder)
    if source.disposable and source.path.is_dir():
        shutil.rmtree(source.path)
    elif source.disposable:
        source.path.unlink(missing_ok=True)


def _read_annotations(
    conversion: Conversion, number: int, archive: Archive, requested: DatasetFormat, queue: ImageQueue
) -> None:
    used: dict[DatasetFormat, None] = {}
    readers = find_readers(archive, requested)
    images = _annotated_images(conversion, number, archive, readers, used)
    lists = SplitLists(archive, is_wanted=conversion.spec.split.by in (SplitBy.AUTO, SplitBy.DATASETS))
    for item in lists.applied(images):
        add_annotated(conversion.store, number, archive, item)
        queue.added()
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


def _store_images(conversion: Conversion, queue: ImageQueue, problems: Problems) -> None:
    """Stores the images of a source with their boxes in the order of reading, each once it is prepared."""
    for pending, facts in queue.read():
        _store_image(conversion, pending, facts, problems)


def _store_image(conversion: Conversion, pending: PendingExample, image: ImageFacts, problems: Problems) -> None:
    """Stores a prepared image with its boxes, or drops its example."""
    store = conversion.store
    conversion.budget.images += 1
    if image.too_large is not None:
        raise DatasetError(Reason.DATASET_TOO_LARGE, image.too_large)
    if image.unreadable is not None:
        problems.add(Kind.IMAGE_UNREADABLE, Action.SKIPPED, file=pending.name, detail=image.unreadable)
        store.drop(pending.id, Kind.IMAGE_UNREADABLE)
        return
    if image.misnamed_as:
        problems.add(Kind.IMAGE_MISNAMED, Action.KEPT, file=pending.name, detail=f"it is {image.misnamed_as}")
    if image.is_first_frame:
        problems.add(Kind.IMAGE_FIRST_FRAME, Action.KEPT, file=pending.name, detail="the other frames are not read")
    frame = annotation_frame(pending.size, image, relative=pending.relative)
    if frame is None:
        claimed, real = pending.size or (0, 0), (image.width, image.height)
        detail = f"annotated as {claimed[0]}×{claimed[1]}, the picture is {real[0]}×{real[1]}"
        problems.add(Kind.SIZE_MISMATCH, Action.SKIPPED, file=pending.annotation, detail=detail)
        store.drop(pending.id, Kind.SIZE_MISMATCH)
        return
    if frame.scaled:
        detail = f"boxes scaled from {frame.width:g}×{frame.height:g}"
        problems.add(Kind.SIZE_SCALED, Action.SCALED, file=pending.annotation, detail=detail)
    boxes = clip_boxes(pending.boxes, frame, file=pending.annotation, names=conversion.names, problems=problems)
    conversion.budget.boxes += len(boxes)
    store.complete(pending.id, boxes)


@contextmanager
def _without_pillow_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        silence_pillow()
        yield
