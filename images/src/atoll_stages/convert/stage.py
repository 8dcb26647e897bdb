"""The convert stage: converts the run's datasets into the dataset cache, and writes `dataset.json` last."""

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath

from atoll_contract import keys
from atoll_contract.convert_spec import ConvertSpec
from atoll_contract.dataset import DATASET_NAME, ClassCount, Dataset, SourceInfo, SplitPart
from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import Reason, SpecError, bounded
from atoll_contract.stage_result import Artifact, Progress
from atoll_contract.store.base import ObjectNotFound
from atoll_contract.store.lease import Lease
from atoll_stages.convert.batches import BatchStore
from atoll_stages.convert.example_store import full_disk_as_os_error
from atoll_stages.convert.image_pool import default_workers
from atoll_stages.convert.meanings import counted_images
from atoll_stages.convert.pipeline import Conversion, ConversionSummary, OnProgress, Source, read_dataset, summarize
from atoll_stages.convert.problems import counted
from atoll_stages.convert.sharding import ShardedImages, SharedPlan, work_as_shard
from atoll_stages.convert.shards import WrittenFile, write_label_map, write_shards
from atoll_stages.convert.sources import FetchedSource, dataset_digest, fetch_sources, find_sources
from atoll_stages.convert.split_names import SPLITS
from atoll_stages.runtime.context import StageContext, StageOutcome

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 2.0
_MAX_SUMMARY_CLASSES = 40
_MAX_SUMMARY_WARNINGS = 5
_MAX_SUMMARY_WARNING = 240
# Reading images fills the progress up to here; writing takes the rest.
_READ_PERCENT = 80.0


def convert(context: StageContext) -> StageOutcome:
    """Converts the run's datasets, unless the cache has them already.

    Raises:
        AtollError: with the reason; only a complete dataset has a `dataset.json`.
    """
    spec = context.input.convert
    if spec is None:
        raise SpecError("the stage input has no section convert")
    if context.worker:
        return work_as_shard(context, spec, default_workers())
    with ExitStack() as kept:
        plan = None
        if (spec.shards or 1) > 1:
            plan = SharedPlan(_batches(context), context.input.attempt)
            kept.enter_context(plan.kept())
        return _convert_or_cached(context, spec, plan)


def _batches(context: StageContext) -> BatchStore:
    return BatchStore(context.store, context.input.run, context.work / "batches")


def _convert_or_cached(context: StageContext, spec: ConvertSpec, plan: SharedPlan | None) -> StageOutcome:
    found = find_sources(spec, context.store, open_other=context.open_store)
    known = [item.sha256 for item in found if item.sha256]
    with ExitStack() as leases:
        digest = None
        # Asked to convert anew, the stage reads the archives themselves, whatever the store says of their content.
        if len(known) == len(found) and context.input.adopt_from is None:
            digest = dataset_digest(known, [item.format for item in found], spec)
            if (outcome := _cached_or_leased(context, digest, leases)) is not None:
                return outcome
        context.report(Progress(0, message=f"fetching {counted(len(found), 'archive')}"))
        fetched = fetch_sources(
            found, context.work / "archives", limits=spec.limits, on_bytes=lambda _: context.check_stop()
        )
        actual = dataset_digest([item.sha256 for item in fetched], [item.found.format for item in fetched], spec)
        if actual != digest and (outcome := _cached_or_leased(context, actual, leases)) is not None:
            return outcome
        with full_disk_as_os_error():
            return _convert(context, spec, fetched, actual, plan)


def _cached_or_leased(context: StageContext, digest: str, leases: ExitStack) -> StageOutcome | None:
    """Returns the outcome from the cache. Where the dataset is not there, this run converts it and no other does: it
    enters the lease into `leases`, or waits for the run that has it."""
    if (outcome := _cached(context, digest)) is not None:
        return outcome
    run, noted = context.input.run, False

    def waits(holder: str) -> None:
        nonlocal noted
        context.check_stop()
        if not noted:
            noted = True
            context.report(Progress(0, message=f"another run ({holder}) converts the same archives; waiting for it"))

    leases.enter_context(
        Lease(context.store, keys.conversion_lease(run.namespace, digest), run.uid, waits=waits).held()
    )
    return _cached(context, digest)


def _cached(context: StageContext, digest: str) -> StageOutcome | None:
    """Returns the outcome from the cache where the dataset is there, each shard with the right size."""
    prefix = keys.cached_dataset(context.input.run.namespace, digest)
    try:
        data = context.store.get(prefix + DATASET_NAME)
        dataset = from_json(Dataset, data)
    except ObjectNotFound:
        return None
    except DecodeError as error:
        logger.warning("%s is written anew: %s", prefix + DATASET_NAME, error)
        return None
    for artifact in (dataset.label_map, *(shard for split in dataset.splits.values() for shard in split.shards)):
        info = context.store.head(artifact.key)
        if info is None or info.size != artifact.size:
            logger.warning("%s is written anew: %s is missing or differs", prefix, artifact.key)
            return None
    return _outcome(dataset, prefix, data, Reason.CACHE_HIT)


def _convert(
    context: StageContext,
    spec: ConvertSpec,
    fetched: Sequence[FetchedSource],
    digest: str,
    plan: SharedPlan | None,
) -> StageOutcome:
    sources = [
        Source(PurePosixPath(item.found.key).name, item.path, item.found.format, disposable=True) for item in fetched
    ]
    prefix = keys.cached_dataset(context.input.run.namespace, digest)
    share = None
    if plan is not None:
        plan.begin(digest)
        share = partial(ShardedImages, batches=_batches(context), digest=digest, shards=spec.shards or 1)
    reader = read_dataset(sources, spec, context.work, on_progress=_progress_reporter(context), share=share)
    with reader as conversion:
        if plan is not None:
            plan.end()
        summary = summarize(conversion)
        folder = context.work / "records"
        folder.mkdir()
        splits = _write_splits(context, conversion, summary, folder=folder, prefix=prefix, sources=sources)
        dataset = Dataset(
            digest=digest,
            sources=tuple(_source_info(conversion, number, item) for number, item in enumerate(fetched)),
            classes=tuple(
                ClassCount(id=number, name=name, boxes=summary.statistics.boxes_of_class(name))
                for number, name in enumerate(summary.classes, start=1)
            ),
            splits=splits,
            label_map=_upload(context, prefix, write_label_map(summary.classes, folder)),
            split_by=str(summary.split_by),
            problem_counts=dict(sorted(conversion.problems.counts.items())),
            problems=tuple(conversion.problems.listed),
            warnings=summary.warnings,
            totals=conversion.sums,
        )
    data = to_json(dataset)
    # Written last, so that a dataset with this file is complete. Another run on the same content writes the same bytes.
    context.store.put(prefix + DATASET_NAME, data)
    return _outcome(dataset, prefix, data, Reason.COMPLETED)


def _write_splits(
    context: StageContext,
    conversion: Conversion,
    summary: ConversionSummary,
    *,
    folder: Path,
    prefix: str,
    sources: Sequence[Source],
) -> dict[str, SplitPart]:
    """Writes and uploads the shards of each split, one at a time."""
    statistics, names = summary.statistics, [source.name for source in sources]
    splits = {}
    for number, split in enumerate(statistics.splits, start=1):
        shards = []
        for file in write_shards(conversion.store, split, folder, classes=summary.classes, sources=names):
            context.check_stop()
            shards.append(_upload(context, prefix, file))
        splits[split] = SplitPart(
            pictures=statistics.images[split],
            boxes=statistics.boxes_of_split(split),
            negatives=statistics.negatives[split],
            shards=tuple(shards),
        )
        percent = _READ_PERCENT + (100 - _READ_PERCENT) * number / len(statistics.splits)
        written = sum(part.pictures for part in splits.values())
        context.report(Progress(round(percent, 1), message=f"wrote {split}", pictures=written))
    return splits


def _upload(context: StageContext, prefix: str, file: WrittenFile) -> Artifact:
    context.store.upload(prefix + file.name, file.path)
    file.path.unlink()
    return Artifact(file.name, prefix + file.name, file.sha256, file.size)


def _source_info(conversion: Conversion, number: int, item: FetchedSource) -> SourceInfo:
    images, boxes = conversion.store.count_source(number)
    return SourceInfo(
        key=item.found.key,
        format=", ".join(conversion.formats[number]),
        sha256=item.sha256,
        etag=item.found.info.etag,
        pictures=images,
        boxes=boxes,
    )


def _outcome(dataset: Dataset, prefix: str, data: bytes, reason: Reason) -> StageOutcome:
    """Returns the outcome of a run whose `dataset.json`, below `prefix`, holds `data`."""
    images = sum(split.pictures for split in dataset.splits.values())
    boxes = sum(split.boxes for split in dataset.splits.values())
    problems = sum(dataset.problem_counts.values())
    artifact = Artifact("dataset", prefix + DATASET_NAME, hashlib.sha256(data).hexdigest(), len(data))
    labels = dataset.label_map
    counts = ((boxes, "box"), (len(dataset.classes), "class"), (problems, "problem"))
    used = counted_images(images, (dataset.totals or {}).get("pictures", {}))
    message = ", ".join([used, *(counted(count, noun) for count, noun in counts)])
    return StageOutcome(
        message=message + (" (converted before)" if reason is Reason.CACHE_HIT else ""),
        outputs=(artifact, Artifact("labels", labels.key, labels.sha256, labels.size)),
        summary={
            "digest": dataset.digest,
            "pictures": images,
            "negatives": sum(split.negatives for split in dataset.splits.values()),
            **{name: dataset.splits[name].pictures if name in dataset.splits else 0 for name in SPLITS},
            "problems": problems,
            "warnings": [
                bounded(warning, _MAX_SUMMARY_WARNING) for warning in dataset.warnings[:_MAX_SUMMARY_WARNINGS]
            ],
            "classes": [
                {"name": item.name, "boxes": sum(item.boxes.values())}
                for item in dataset.classes[:_MAX_SUMMARY_CLASSES]
            ],
        },
        reason=reason,
    )


def _progress_reporter(context: StageContext) -> OnProgress:
    """Returns a callback that prints progress every few seconds, and raises when the stage is to end."""
    last = -_REPORT_SECONDS

    def on_progress(done: int, known: int) -> None:
        nonlocal last
        context.check_stop()
        now = time.monotonic()
        if now - last >= _REPORT_SECONDS:
            last = now
            percent = _READ_PERCENT * done / max(1, known)
            context.report(Progress(round(percent, 1), message=f"picture {done} of {known}", pictures=done))

    return on_progress
