"""The convert stage: from `StageInput` to a dataset in the cache, `dataset.json` last."""

import errno
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from atoll_contract import keys
from atoll_contract.dataset import DATASET_NAME, ClassCount, Dataset, SourceInfo, SplitPart
from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import Reason, SpecError
from atoll_contract.stage import ConvertSpec
from atoll_contract.stage_result import Artifact, Progress
from atoll_contract.store.base import ObjectNotFound
from atoll_stages.convert.pipeline import Conversion, Source, Tick, collected
from atoll_stages.convert.problems import counted
from atoll_stages.convert.shards import WrittenFile, write_label_map, write_shards
from atoll_stages.convert.sources import Fetched, dataset_digest, fetch_sources, find_sources
from atoll_stages.convert.statistics import Findings, conclude
from atoll_stages.runtime.context import StageContext, StageOutcome

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 2.0
_MAX_SUMMARY_CLASSES = 40
# Shares of the progress bar: reading pictures ends here, writing takes the rest.
_READ_PERCENT = 80.0


def convert(context: StageContext) -> StageOutcome:
    """Convert the run's datasets, or find that the cache has them already.

    Raises:
        AtollError: with the reason; nothing but a complete dataset has a `dataset.json`.
    """
    spec = context.input.convert
    if spec is None:
        raise SpecError("the stage input has no section convert")
    found = find_sources(spec, context.store)
    known = [item.sha256 for item in found if item.sha256]
    if len(known) == len(found):
        digest = dataset_digest(known, [item.format for item in found], spec)
        if (outcome := _cached(context, digest)) is not None:
            return outcome
    context.report(Progress(0, message=f"fetching {counted(len(found), 'archive')}"))
    fetched = fetch_sources(found, context.work / "archives", limits=spec.limits, tick=lambda _: context.check_stop())
    digest = dataset_digest([item.sha256 for item in fetched], [item.found.format for item in fetched], spec)
    if (outcome := _cached(context, digest)) is not None:
        return outcome
    with full_disk_as_os_error():
        return _convert(context, spec, fetched, digest)


@contextmanager
def full_disk_as_os_error() -> Iterator[None]:
    """SQLite has an error of its own for a full disk; the runner knows the system's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _cached(context: StageContext, digest: str) -> StageOutcome | None:
    """The outcome from the cache, if the dataset is there with every shard in its size."""
    prefix = keys.cached_dataset(context.input.run.namespace, digest)
    try:
        data = context.store.get(prefix + DATASET_NAME)
        dataset = from_json(Dataset, data)
    except ObjectNotFound:
        return None
    except DecodeError as error:
        logger.warning("%s is written anew: %s", prefix + DATASET_NAME, error)
        return None
    parts = [dataset.label_map, *(shard for part in dataset.splits.values() for shard in part.shards)]
    for artifact in parts:
        info = context.store.head(artifact.key)
        if info is None or info.size != artifact.size:
            logger.warning("%s is written anew: %s is missing or differs", prefix, artifact.key)
            return None
    return _outcome(dataset, _dataset_artifact(prefix, data), Reason.CACHE_HIT)


def _convert(context: StageContext, spec: ConvertSpec, fetched: Sequence[Fetched], digest: str) -> StageOutcome:
    sources = [
        Source(PurePosixPath(item.found.key).name, item.path, item.found.format, disposable=True) for item in fetched
    ]
    with collected(sources, spec, context.work, tick=_ticking(context)) as conversion:
        findings = conclude(conversion)
        prefix = keys.cached_dataset(context.input.run.namespace, digest)
        dataset = _write(context, conversion, findings, prefix=prefix, digest=digest, fetched=fetched)
    data = to_json(dataset)
    # Last: who finds it finds everything. A second convert of the same content writes the same bytes.
    context.store.put(prefix + DATASET_NAME, data)
    return _outcome(dataset, _dataset_artifact(prefix, data), Reason.COMPLETED)


def _write(
    context: StageContext,
    conversion: Conversion,
    findings: Findings,
    *,
    prefix: str,
    digest: str,
    fetched: Sequence[Fetched],
) -> Dataset:
    folder = context.work / "records"
    folder.mkdir()
    names = [PurePosixPath(item.found.key).name for item in fetched]
    splits = {}
    for number, part in enumerate(findings.census.parts):
        shards = []
        for file in write_shards(conversion.catalog, part, folder, classes=findings.classes, sources=names):
            context.check_stop()
            shards.append(_upload(context, prefix, file))
        splits[part] = SplitPart(
            pictures=findings.census.pictures[part],
            boxes=findings.census.of_part(part),
            negatives=findings.census.negatives[part],
            shards=tuple(shards),
        )
        done = _READ_PERCENT + (100 - _READ_PERCENT) * (number + 1) / len(findings.census.parts)
        context.report(
            Progress(round(done, 1), message=f"wrote {part}", pictures=sum(p.pictures for p in splits.values()))
        )
    return Dataset(
        digest=digest,
        sources=tuple(_source_info(conversion, number, item) for number, item in enumerate(fetched)),
        classes=tuple(
            ClassCount(id=number, name=name, boxes=findings.census.of_class(name))
            for number, name in enumerate(findings.classes, start=1)
        ),
        splits=splits,
        label_map=_upload(context, prefix, write_label_map(findings.classes, folder)),
        split_by=str(findings.split_by),
        problem_counts=dict(sorted(conversion.problems.counts.items())),
        problems=tuple(conversion.problems.listed),
        warnings=findings.warnings,
    )


def _upload(context: StageContext, prefix: str, file: WrittenFile) -> Artifact:
    context.store.upload(prefix + file.name, file.path)
    file.path.unlink()
    return Artifact(file.name, prefix + file.name, file.sha256, file.size)


def _source_info(conversion: Conversion, number: int, item: Fetched) -> SourceInfo:
    pictures, boxes = conversion.catalog.source_counts(number)
    return SourceInfo(
        key=item.found.key,
        format=str(conversion.formats[number]),
        sha256=item.sha256,
        etag=item.found.info.etag,
        pictures=pictures,
        boxes=boxes,
    )


def _dataset_artifact(prefix: str, data: bytes) -> Artifact:
    return Artifact("dataset", prefix + DATASET_NAME, hashlib.sha256(data).hexdigest(), len(data))


def _outcome(dataset: Dataset, artifact: Artifact, reason: Reason) -> StageOutcome:
    pictures = sum(part.pictures for part in dataset.splits.values())
    boxes = sum(part.boxes for part in dataset.splits.values())
    problems = sum(dataset.problem_counts.values())
    labels = dataset.label_map
    message = ", ".join(
        counted(count, noun)
        for count, noun in (
            (pictures, "picture"),
            (boxes, "box"),
            (len(dataset.classes), "class"),
            (problems, "problem"),
        )
    )
    return StageOutcome(
        message=message + (" (converted before)" if reason is Reason.CACHE_HIT else ""),
        outputs=(artifact, Artifact("labels", labels.key, labels.sha256, labels.size)),
        summary={
            "digest": dataset.digest,
            "pictures": pictures,
            "negatives": sum(part.negatives for part in dataset.splits.values()),
            **{
                name: dataset.splits[name].pictures if name in dataset.splits else 0
                for name in ("train", "validation", "test")
            },
            "problems": problems,
            "classes": [
                {"name": item.name, "boxes": sum(item.boxes.values())}
                for item in dataset.classes[:_MAX_SUMMARY_CLASSES]
            ],
        },
        reason=reason,
    )


def _ticking(context: StageContext) -> Tick:
    """Progress every few seconds, and the end of the work when it is asked for."""
    last = -_REPORT_SECONDS

    def tick(done: int, known: int) -> None:
        nonlocal last
        context.check_stop()
        now = time.monotonic()
        if now - last >= _REPORT_SECONDS:
            last = now
            percent = _READ_PERCENT * done / max(1, known)
            context.report(Progress(round(percent, 1), message=f"picture {done} of {known}", pictures=done))

    return tick
