"""A stage's summary, which is a stranger's, as figures of the status: an entry that is missing (long ones are left out
of termination messages) or of the wrong type counts as none."""

from collections.abc import Mapping, Sequence
from typing import Any

from atoll_contract.document import replace
from atoll_contract.errors import Reason, bounded
from atoll_contract.release import EDGETPU
from atoll_operator.api.figures import (
    ClassBoxes,
    ClassMetric,
    DatasetStatus,
    Int8Metrics,
    MetricsStatus,
    ModelMetrics,
    TargetFigures,
)
from atoll_operator.api.status import CompileStatus, RunStatus

MAX_CLASSES = 40
MAX_WARNINGS = 5
MAX_WARNING = 240
MAX_PER_CLASS = 100
MAX_ASSESSMENT = 300
MAX_CLASS_NAME = 64
_MAX_TEXT = 64
_SPLITS = ("validation", "test")
_DATASET_COUNTS = ("pictures", "negatives", "train", "validation", "test", "problems")
SIMULATOR = "simulator"
_SOURCES = (SIMULATOR, "predicted")


def decimal(value: Any, *, digits: int = 4) -> str:
    """A number as the API's decimal string, without trailing zeros; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**6:
        return ""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(data: Mapping[str, Any], name: str) -> int:
    """A count that the API's schema takes; 0 for anything else."""
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object of the summary; an empty one for anything else."""
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def dataset_figures(summary: Mapping[str, Any]) -> DatasetStatus:
    """What the convert stage counted."""
    counts = {name: count(summary, name) for name in _DATASET_COUNTS}
    listed = summary.get("classes")
    objects = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    classes = tuple(
        ClassBoxes(bounded(item["name"], MAX_CLASS_NAME), count(item, "boxes"))
        for item in objects[:MAX_CLASSES]
        if isinstance(item.get("name"), str)
    )
    digest, said = summary.get("digest"), summary.get("warnings")
    texts = [item for item in said if isinstance(item, str)] if isinstance(said, list) else []
    return DatasetStatus(
        digest=bounded(digest, 71) if isinstance(digest, str) else "",
        warnings=tuple(bounded(text, MAX_WARNING) for text in texts[:MAX_WARNINGS]) or None,
        classes=classes,
        **counts,
    )


def with_metrics(status: RunStatus, summary: Mapping[str, Any]) -> RunStatus:
    """`status` with what the export stage measured, and its assessment of the model."""
    measured = mapping(summary, "metrics")
    int8 = mapping(measured, "int8")
    split = summary.get("split")
    metrics = MetricsStatus(
        float_=_model_metrics(mapping(measured, "float")),
        int8=_int8_metrics(int8),
        pictures=count(measured, "pictures") or None,
        split=split if split in _SPLITS else None,
    )
    per_class = tuple(
        ClassMetric(bounded(str(name), MAX_CLASS_NAME), decimal(value))
        for name, value in list(mapping(int8, "perClass").items())[:MAX_PER_CLASS]
        if decimal(value)
    )
    predicted = decimal(summary.get("predictedMappedPercent"), digits=1)
    ap50 = f"{float(metrics.int8.ap50):.2f}" if metrics.int8.ap50 else ""
    said = summary.get("assessment")
    assessment = bounded(said, MAX_ASSESSMENT) if isinstance(said, str) and said else None
    return replace(
        status,
        metrics=metrics,
        per_class=per_class,
        compile=tuple(_with_prediction(item, predicted) for item in status.compile),
        summary=replace(status.summary, ap50=ap50, assessment=assessment),
    )


def _with_prediction(entry: CompileStatus, percent: str) -> CompileStatus:
    """`entry` with the predicted mapping, which is the Edge TPU's."""
    return replace(entry, predicted_mapped_percent=percent) if entry.target == EDGETPU else entry


def _model_metrics(measured: Mapping[str, Any]) -> ModelMetrics:
    return ModelMetrics(decimal(measured.get("ap50")), decimal(measured.get("ap")))


def _int8_metrics(measured: Mapping[str, Any]) -> Int8Metrics:
    both = _model_metrics(measured)
    said = measured.get("ap50Interval")
    borders = [decimal(item) for item in said] if isinstance(said, list) and len(said) == 2 else []
    # One border without the other says nothing.
    return Int8Metrics(both.ap50, both.ap, *borders) if all(borders) else Int8Metrics(both.ap50, both.ap)


def without_compile(status: RunStatus, targets: Sequence[str], reason: Reason) -> RunStatus:
    """`status` in which none of the run's compile targets is compiled."""
    known = {item.target: item for item in status.compile}
    entries = tuple(_emptied(known.get(target) or CompileStatus(target), reason) for target in targets)
    return with_target_texts(replace(status, compile=entries))


def _emptied(entry: CompileStatus, reason: Reason) -> CompileStatus:
    predicted = entry.predicted_mapped_percent
    return CompileStatus(entry.target, reason=reason, predicted_mapped_percent=predicted, stage=entry.stage)


def with_compilation(
    status: RunStatus, targets: Sequence[str], reason: Reason, summary: Mapping[str, Any]
) -> RunStatus:
    """`status` with the result of a compile stage that ended well. The run has one target."""
    if summary.get("compiled") is not True:
        return without_compile(status, targets, _failure(reason, summary))
    compiled = tuple(
        replace(
            item,
            compiled=True,
            reason=reason,
            mapped_percent=decimal(summary.get("mappedPercent"), digits=1),
            chip=_short_text(summary.get("chip")),
            compiler_version=_short_text(summary.get("compilerVersion")),
            figures=_target_figures(mapping(summary, "figures")),
        )
        for item in status.compile
    )
    return with_target_texts(replace(status, compile=compiled))


def _failure(reason: Reason, summary: Mapping[str, Any]) -> Reason:
    """Why nothing was compiled, where the policy lets the stage end well all the same."""
    if reason not in (Reason.COMPLETED, Reason.ADOPTED):
        return reason
    given = summary.get("reason")
    return Reason.COMPILER_UNAVAILABLE if given == Reason.COMPILER_UNAVAILABLE else Reason.COMPILE_FAILED


def _short_text(value: Any) -> str | None:
    """A text, bounded; None for anything else."""
    return bounded(value, _MAX_TEXT) if isinstance(value, str) and value else None


def _target_figures(measured: Mapping[str, Any]) -> TargetFigures | None:
    """What the compile stage measured or predicted of the file for one target."""
    ap50, source = decimal(measured.get("ap50")), measured.get("source")
    return TargetFigures(ap50, decimal(measured.get("ap")), source) if ap50 and source in _SOURCES else None


def with_target_texts(status: RunStatus) -> RunStatus:
    """`status` with what the printer columns say of its targets: those that have a verdict."""
    texts = {item.target: _text(item) for item in status.compile if item.reason is not Reason.PENDING}
    alone = [item.target for item in status.compile] == [EDGETPU]
    shown = list(texts.values()) if alone else [f"{target} {text}" for target, text in texts.items()]
    return replace(
        status, summary=replace(status.summary, tpu=texts.get(EDGETPU, ""), targets=", ".join(shown) or None)
    )


def _text(entry: CompileStatus) -> str:
    if not entry.compiled:
        # Without a file, only a target that is left out on purpose is complete.
        texts = {Reason.COMPLETED: "off", Reason.COMPILER_UNAVAILABLE: "no compiler"}
        return texts.get(entry.reason, "refused")
    if entry.figures is not None and entry.figures.source == SIMULATOR:
        return f"{float(entry.figures.ap50):.2f}"
    return f"{entry.mapped_percent}%" if entry.mapped_percent else "yes"
