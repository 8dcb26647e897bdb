"""The compile stage: compiles one model for one target; the policy decides whether a failure fails the stage."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from atoll_contract.detector_head import DetectorHead
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.release import INT8_NAME, compile_artifact
from atoll_contract.stage import CompilePolicy, CompileSpec, Stage
from atoll_contract.stage_result import Artifact
from atoll_stages.compile.edgetpu import EdgeTpuTarget
from atoll_stages.compile.figures import Figures, failed_gate, predicted_figures, simulated_figures
from atoll_stages.compile.hailo import HAILO
from atoll_stages.compile.process import Deadline
from atoll_stages.compile.qnn import QNN
from atoll_stages.compile.rknn import RKNN
from atoll_stages.compile.target import Compilation, CompileInput, CompileTarget, FloatNetwork
from atoll_stages.export.target_inputs import (
    CALIBRATION_ARTIFACT,
    CALIBRATION_NAME,
    HEAD_ARTIFACT,
    ONNX_ARTIFACT,
    ONNX_NAME,
)
from atoll_stages.runtime.context import StageContext, StageOutcome
from atoll_stages.train.dataset import fetch_split, read_dataset

COMPILATION_NAME = "compilation.json"
MAX_UNMAPPED = 5

_TARGETS: tuple[CompileTarget, ...] = (EdgeTpuTarget(), RKNN, QNN, HAILO)
TARGETS: Mapping[str, CompileTarget] = {target.name: target for target in _TARGETS}


def compile_model(context: StageContext, *, targets: Mapping[str, CompileTarget] = TARGETS) -> StageOutcome:
    """Compiles the model of the export stage.

    With `BestEffort` the stage succeeds even if the model is not compiled. Under any policy it fails where fewer
    operations are mapped than `min_mapped_percent`, or the chip's AP50 is below the float model's by more than
    `max_ap50_drop`.

    Raises:
        SpecError: the input has no section `compile`, or its target or chip is not known.
    """
    spec = context.input.compile
    if spec is None:
        raise SpecError("the stage's input has no section `compile`")
    target = targets.get(spec.target)
    if target is None:
        raise SpecError(f"compile target {spec.target!r} is not known; known are {', '.join(sorted(targets))}")
    if spec.chip is not None and spec.chip not in target.chips:
        known = ", ".join(target.chips) or "none, it has one chip only"
        raise SpecError(f"compile target {spec.target} has no chip {spec.chip!r}; known are {known}")
    if spec.policy is CompilePolicy.DISABLED:
        return StageOutcome(f"{spec.target}: compiling is disabled", (), {"target": spec.target, "compiled": False})
    model = context.fetch(context.input.artifact(Stage.EXPORT, "model"), context.work / INT8_NAME)
    with ExitStack() as stack:
        network = _fetch_network(context, stack) if target.needs_network else None
        deadline = Deadline.after(spec.timeout_seconds, context.stop)
        compilation = target.compile(CompileInput(model, context.work / spec.target, deadline, spec.chip, network))
        measured = _read_metrics(context)
        if compilation.detections is not None and network is not None:
            figures: Figures | None = simulated_figures(network, compilation.detections)
        else:
            figures = predicted_figures(measured) if compilation.compiled else None
    return _outcome(
        context, spec, target, compilation, figures, failed_gate(spec, target, compilation, figures, measured)
    )


def _fetch_network(context: StageContext, stack: ExitStack) -> FloatNetwork | None:
    """What export left for targets that quantise by themselves; None where it left nothing."""
    given = {item.name: item for item in context.input.upstream.get(Stage.EXPORT, ())}
    if not {ONNX_ARTIFACT, HEAD_ARTIFACT, CALIBRATION_ARTIFACT} <= given.keys():
        return None
    head = context.fetch(given[HEAD_ARTIFACT], context.work / "head.json")
    dataset = read_dataset(context)
    try:
        decoded = from_json(DetectorHead, head.read_bytes(), skip_unknown=True)
    except DecodeError as error:
        raise IntegrityError(f"{given[HEAD_ARTIFACT].key} cannot be read: {error}") from None
    return FloatNetwork(
        onnx=context.fetch(given[ONNX_ARTIFACT], context.work / ONNX_NAME),
        head=decoded,
        calibration=context.fetch(given[CALIBRATION_ARTIFACT], context.work / CALIBRATION_NAME),
        examples=stack.enter_context(fetch_split(context, dataset, dataset.evaluation_split)),
    )


def _read_metrics(context: StageContext) -> Mapping[str, Any]:
    """The metrics of export's float and int8 model; empty where it left none."""
    found = next((item for item in context.input.upstream.get(Stage.EXPORT, ()) if item.name == "metrics"), None)
    if found is None:
        return {}
    try:
        metrics = json.loads(context.fetch(found, context.work / "metrics.json").read_bytes())["metrics"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{found.key} has no metrics: {error}") from None
    return metrics if isinstance(metrics, dict) else {}


def _outcome(
    context: StageContext,
    spec: CompileSpec,
    target: CompileTarget,
    compilation: Compilation,
    figures: Figures | None,
    failed: tuple[Reason, str] | None,
) -> StageOutcome:
    summary = _summary(spec, compilation, figures)
    outputs = _save_files(context, spec, target, compilation, summary)
    if not compilation.compiled:
        required = spec.policy is CompilePolicy.REQUIRED
        reason = compilation.reason if required else Reason.COMPLETED
        return StageOutcome(f"not compiled: {compilation.message}", outputs, summary, reason)
    if failed is not None:
        return StageOutcome(failed[1], outputs, summary, failed[0])
    measured = f"; {figures.describe()}" if figures and target.needs_network else ""
    return StageOutcome(f"compiled: {compilation.message}{measured}", outputs, summary)


def _summary(spec: CompileSpec, compilation: Compilation, figures: Figures | None) -> dict[str, Any]:
    facts = {
        "target": spec.target,
        "chip": spec.chip,
        "compiled": compilation.compiled,
        "compilerVersion": compilation.compiler_version,
        "minRuntimeVersion": compilation.min_runtime_version,
        "mappedPercent": compilation.mapped_percent,
        "unmapped": list(compilation.unmapped[:MAX_UNMAPPED]) or None,
        "figures": figures.document() if figures else None,
        "reason": None if compilation.compiled else compilation.reason,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _save_files(
    context: StageContext,
    spec: CompileSpec,
    target: CompileTarget,
    compilation: Compilation,
    summary: Mapping[str, Any],
) -> tuple[Artifact, ...]:
    saved = []
    if compilation.path is not None:
        path = compilation.path.rename(context.work / target.file_name(spec.chip))
        saved.append(context.save(compile_artifact(spec.target, "compiled"), path))
    if compilation.log:
        log = context.work / f"{spec.target}_compiler.log"
        log.write_text(compilation.log, encoding="utf-8")
        saved.append(context.save(compile_artifact(spec.target, "log"), log))
    (context.work / COMPILATION_NAME).write_text(json.dumps(summary, sort_keys=True), encoding="utf-8")
    saved.append(context.save(compile_artifact(spec.target, "compilation"), context.work / COMPILATION_NAME))
    return tuple(saved)
