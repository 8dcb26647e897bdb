"""Builds the manifest of a release from its files and from the documents of the earlier stages."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_dict, rfc3339
from atoll_contract.errors import IntegrityError
from atoll_contract.images import stated_preprocessing
from atoll_contract.labelmap import LabelMapError, parse_label_map
from atoll_contract.release import EDGETPU, Detection, EdgeTpu, Manifest, ManifestFile, ModelInput, Role, TargetResult
from atoll_contract.stage import PublishSpec, Stage
from atoll_contract.stage_result import Artifact
from atoll_contract.tflite import Model, read_model
from atoll_stages.publish.files import ReleaseFile, optional_artifact, other_targets
from atoll_stages.runtime.context import StageContext

logger = logging.getLogger(__name__)

# The threshold of a class for which the evaluation found no better one.
DEFAULT_THRESHOLD = 0.5
_METRICS = ("ap50", "ap")


def build_manifest(context: StageContext, spec: PublishSpec, files: Sequence[ReleaseFile]) -> Manifest:
    """Returns the manifest of version `spec.version`.

    Raises:
        IntegrityError: a document of an earlier stage is not what the contract says.
    """
    by_role = {file.role: file for file in reversed(files)}
    labels = _labels(by_role[Role.LABELS].path)
    metrics = _read_json(by_role[Role.METRICS].path) if Role.METRICS in by_role else {}
    thresholds = metrics.get("thresholds", {})
    model = read_model(by_role[Role.MODEL_INT8].path.read_bytes())
    return Manifest(
        namespace=context.input.run.namespace,
        model=spec.model,
        version=spec.version,
        sequence=spec.version,
        created_at=rfc3339(),
        run=context.input.run,
        input=_model_input(model, by_role[Role.MODEL_INT8].path.name),
        preprocessing=stated_preprocessing(model.resize),
        labels=labels,
        thresholds=tuple(float(thresholds.get(label, DEFAULT_THRESHOLD)) for label in labels),
        files=_manifest_files(context, files),
        edgetpu=_edgetpu(context, compiled=Role.MODEL_EDGETPU in by_role),
        metrics=_select_metrics(metrics.get("metrics", {})),
        provenance=spec.provenance,
        channel=spec.channel,
        rollout=spec.rollout,
        targets=_targets(context, spec),
        object_widths=_object_widths(spec, labels),
    )


def _object_widths(spec: PublishSpec, labels: Sequence[str]) -> Mapping[str, float] | None:
    """The widths of the model's own labels."""
    given = spec.object_widths or {}
    if unknown := sorted(given.keys() - set(labels)):
        logger.warning("spec.publish.objectWidths: the model has no label %s; it has %s", unknown, list(labels))
    return {label: given[label] for label in labels if label in given} or None


def _manifest_files(context: StageContext, files: Sequence[ReleaseFile]) -> tuple[ManifestFile, ...]:
    detections = _golden_detections(context)
    return tuple(
        ManifestFile(
            role=file.role,
            name=file.name,
            key=keys.blob(file.sha256),
            sha256=file.sha256,
            size=file.size,
            media_type=file.media_type,
            expected=_expected(detections, file.name) if file.role is Role.GOLDEN else None,
            target=file.target,
        )
        for file in files
    )


def _expected(detections: Mapping[str, tuple[Detection, ...]], name: str) -> tuple[Detection, ...]:
    # Without expected detections any model would pass the device's verification.
    if name not in detections:
        raise IntegrityError(f"golden.json of the export stage says nothing of {name}; it has {', '.join(detections)}")
    return detections[name]


def _golden_detections(context: StageContext) -> Mapping[str, tuple[Detection, ...]]:
    """Returns the detections that devices shall find in each golden image, by file name."""
    artifact = optional_artifact(context.input, Stage.EXPORT, "golden")
    if artifact is None:
        return {}
    golden = _fetch_json(context, artifact)
    try:
        return {
            item["name"]: tuple(from_dict(Detection, detection) for detection in item["expected"]) for item in golden
        }
    except (DecodeError, KeyError, TypeError) as error:
        raise IntegrityError(f"{artifact.key} is no list of golden pictures: {error}") from None


def _edgetpu(context: StageContext, *, compiled: bool) -> EdgeTpu:
    mapping = optional_artifact(context.input, Stage.EXPORT, "mapping")
    predicted = _fetch_json(context, mapping).get("percent") if mapping else None
    compilation = optional_artifact(context.input, Stage.COMPILE, "compilation")
    facts = _fetch_json(context, compilation) if compiled and compilation else {}
    return EdgeTpu(
        compiled=compiled,
        compiler_version=facts.get("compilerVersion"),
        min_runtime_version=facts.get("minRuntimeVersion"),
        mapped_percent=facts.get("mappedPercent"),
        predicted_mapped_percent=predicted,
    )


def _targets(context: StageContext, spec: PublishSpec) -> tuple[TargetResult, ...] | None:
    """The results of all compile targets; None where the Edge TPU is the only one. A target that was left out, or whose
    file did not pass its gates, has left nothing."""
    left = other_targets(context.input, "compilation")
    wanted = spec.targets or tuple(left)
    if not wanted:
        return None
    edgetpu = optional_artifact(context.input, Stage.COMPILE, "compilation")
    if edgetpu is not None:
        left[EDGETPU] = edgetpu
    found = {target: _target_result(_fetch_json(context, artifact), artifact) for target, artifact in left.items()}
    return tuple(found.get(target) or TargetResult(target, compiled=False) for target in wanted)


def _target_result(facts: Any, artifact: Artifact) -> TargetResult:
    try:
        figures = facts.get("figures") or {}
        result = {
            "target": facts["target"],
            "compiled": facts["compiled"],
            "chip": facts.get("chip"),
            "compilerVersion": facts.get("compilerVersion"),
            "mappedPercent": facts.get("mappedPercent"),
            "ap50": figures.get("ap50"),
            "ap": figures.get("ap"),
            "figuresSource": figures.get("source"),
            "reason": facts.get("reason"),
        }
        return from_dict(TargetResult, {name: value for name, value in result.items() if value is not None})
    except (AttributeError, DecodeError, KeyError, TypeError) as error:
        raise IntegrityError(f"{artifact.key} is no result of a compile target: {error}") from None


def _model_input(model: Model, name: str) -> ModelInput:
    inputs = model.inputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise IntegrityError(f"{name} takes {len(inputs)} inputs; one picture [1, height, width, 3] is expected")
    _, height, width, channels = inputs[0].shape
    return ModelInput(width, height, channels, inputs[0].dtype)


def _labels(path: Path) -> tuple[str, ...]:
    try:
        return tuple(label.name for label in parse_label_map(path.read_text(encoding="utf-8")))
    except (LabelMapError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path.name}: {error}") from None


def _select_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        kind: {name: metrics[kind][name] for name in _METRICS if name in metrics[kind]}
        for kind in ("float", "int8")
        if kind in metrics
    }


def _fetch_json(context: StageContext, artifact: Artifact) -> Any:
    return _read_json(context.fetch(artifact, context.work / "documents" / f"{artifact.name}.json"))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError(f"{path.name} is not JSON: {error}") from None
