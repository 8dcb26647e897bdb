"""The few figures of a stage's result that a run's status shows, typed, bounded and never trusted. Pure.

A summary is what a stage's pod wrote: an entry that is missing (long ones are left out of termination messages) or
has the wrong type is passed over.
"""

from collections.abc import Mapping
from typing import Any

from atoll_contract.document import replace
from atoll_contract.errors import Reason, bounded
from atoll_contract.release import ManifestRef
from atoll_contract.stage import CompilePolicy, Stage
from atoll_operator.api.status import (
    ClassBoxes,
    ClassMetric,
    CompileStatus,
    DatasetStatus,
    Metrics,
    ModelMetrics,
    ReleaseStatus,
    RunStatus,
)
from atoll_operator.lifecycle.model import RunView
from atoll_operator.lifecycle.results import Verdict

MAX_CLASSES = 40
MAX_PER_CLASS = 100
MAX_CLASS_NAME = 64


def with_summary(run: RunView, status: RunStatus, stage: Stage, verdict: Verdict) -> RunStatus:
    """`status` with the figures of a stage that succeeded."""
    if stage is Stage.CONVERT:
        return replace(status, dataset=_dataset(verdict.summary))
    if stage is Stage.EXPORT:
        return _with_metrics(status, verdict.summary)
    if stage is Stage.COMPILE:
        return _with_compile(run, status, verdict)
    if stage is Stage.PUBLISH:
        return _with_manifest(status, verdict)
    return status


def without_compile(run: RunView, status: RunStatus, reason: Reason) -> RunStatus:
    """`status` where nothing is compiled, for `reason`."""
    predicted = {item.target: item.predicted_mapped_percent for item in status.compile}
    compiled = tuple(
        CompileStatus(choice.target, reason=reason, predicted_mapped_percent=predicted.get(choice.target, ""))
        for choice in run.compile
    )
    disabled = all(choice.policy is CompilePolicy.DISABLED for choice in run.compile)
    unavailable = "no compiler" if reason is Reason.COMPILER_UNAVAILABLE else "refused"
    return replace(status, compile=compiled, summary=replace(status.summary, tpu="off" if disabled else unavailable))


def next_version(summary: Mapping[str, Any]) -> int | None:
    """The version that a publish stage saw free when its own was taken."""
    value = summary.get("nextVersion")
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9 else None


def _dataset(summary: Mapping[str, Any]) -> DatasetStatus:
    counts = {
        name: _count(summary, name) for name in ("pictures", "negatives", "train", "validation", "test", "problems")
    }
    listed = [item for item in _list(summary, "classes") if isinstance(item, dict)]
    classes = tuple(
        ClassBoxes(bounded(item["name"], MAX_CLASS_NAME), _count(item, "boxes"))
        for item in listed[:MAX_CLASSES]
        if isinstance(item.get("name"), str)
    )
    digest = summary.get("digest")
    return DatasetStatus(digest=bounded(digest, 71) if isinstance(digest, str) else "", classes=classes, **counts)


def _with_metrics(status: RunStatus, summary: Mapping[str, Any]) -> RunStatus:
    measured = _object(summary, "metrics")
    int8 = _object(measured, "int8")
    metrics = Metrics(float_=_model(_object(measured, "float")), int8=_model(int8))
    per_class = tuple(
        ClassMetric(bounded(str(name), MAX_CLASS_NAME), _decimal(value))
        for name, value in list(_object(int8, "perClass").items())[:MAX_PER_CLASS]
        if _decimal(value)
    )
    predicted = _decimal(summary.get("predictedMappedPercent"), digits=1)
    compiled = tuple(replace(item, predicted_mapped_percent=predicted) for item in status.compile)
    summary_strings = replace(status.summary, ap50=_two_digits(metrics.int8.ap50))
    return replace(status, metrics=metrics, per_class=per_class, compile=compiled, summary=summary_strings)


def _with_compile(run: RunView, status: RunStatus, verdict: Verdict) -> RunStatus:
    if verdict.summary.get("compiled") is not True:
        reason = Reason.COMPILE_FAILED if verdict.reason in (Reason.COMPLETED, Reason.ADOPTED) else verdict.reason
        return without_compile(run, status, reason)
    mapped = _decimal(verdict.summary.get("mappedPercent"), digits=1)
    compiled = tuple(
        replace(item, compiled=True, reason=verdict.reason, mapped_percent=mapped) for item in status.compile
    )
    return replace(status, compile=compiled, summary=replace(status.summary, tpu=f"{mapped}%" if mapped else "yes"))


def _with_manifest(status: RunStatus, verdict: Verdict) -> RunStatus:
    manifest = next((item for item in verdict.outputs if item.name == "manifest"), None)
    if status.release is None or manifest is None:
        return status
    reference = ManifestRef(manifest.key, manifest.sha256, manifest.size)
    release = ReleaseStatus(status.release.name, status.release.version, reference)
    return replace(status, release=release, summary=replace(status.summary, release=release.name))


def _model(measured: Mapping[str, Any]) -> ModelMetrics:
    return ModelMetrics(_decimal(measured.get("ap50")), _decimal(measured.get("ap")))


def _two_digits(text: str) -> str:
    return f"{float(text):.2f}" if text else ""


def _decimal(value: Any, *, digits: int = 4) -> str:
    """A number as the API's decimal string, without trailing zeros; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**6:
        return ""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _count(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    value = data.get(name)
    return value if isinstance(value, list) else []
