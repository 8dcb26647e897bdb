"""The compile stage: compiles one model for one target; the policy decides whether a failure fails the stage."""

import json
from collections.abc import Mapping
from typing import Any

from atoll_contract.errors import Reason, SpecError
from atoll_contract.release import EDGETPU_NAME, INT8_NAME
from atoll_contract.stage import CompilePolicy, CompileSpec, Stage
from atoll_contract.stage_result import Artifact
from atoll_stages.compile.edgetpu import EdgeTpuTarget
from atoll_stages.compile.process import Deadline
from atoll_stages.compile.target import Compilation, CompileTarget
from atoll_stages.runtime.context import StageContext, StageOutcome

LOG_NAME = "edgetpu_compiler.log"
COMPILATION_NAME = "compilation.json"
MAX_UNMAPPED = 5

_TARGETS: tuple[CompileTarget, ...] = (EdgeTpuTarget(),)
TARGETS: Mapping[str, CompileTarget] = {target.name: target for target in _TARGETS}


def compile_model(context: StageContext, *, targets: Mapping[str, CompileTarget] = TARGETS) -> StageOutcome:
    """Compiles the model of the export stage.

    With `BestEffort` the stage succeeds even if the model is not compiled. Under any policy it fails where fewer
    operations are mapped than `min_mapped_percent`.

    Raises:
        SpecError: the input has no section `compile`, or its target is not known.
    """
    spec = context.input.compile
    if spec is None:
        raise SpecError("the stage's input has no section `compile`")
    target = targets.get(spec.target)
    if target is None:
        raise SpecError(f"compile target {spec.target!r} is not known; known are {', '.join(sorted(targets))}")
    if spec.policy is CompilePolicy.DISABLED:
        return StageOutcome(f"{spec.target}: compiling is disabled", (), {"target": spec.target, "compiled": False})
    model = context.fetch(context.input.artifact(Stage.EXPORT, "model"), context.work / INT8_NAME)
    deadline = Deadline.after(spec.timeout_seconds, context.stop)
    compilation = target.compile(model, context.work / spec.target, deadline)
    return _outcome(context, spec, compilation)


def _outcome(context: StageContext, spec: CompileSpec, compilation: Compilation) -> StageOutcome:
    summary = _summary(spec, compilation)
    outputs = _save_files(context, compilation, summary)
    if not compilation.compiled:
        required = spec.policy is CompilePolicy.REQUIRED
        reason = compilation.reason if required else Reason.COMPLETED
        return StageOutcome(f"not compiled: {compilation.message}", outputs, summary, reason)
    required_percent, percent = spec.min_mapped_percent, compilation.mapped_percent
    if required_percent is not None and percent is not None and percent < required_percent:
        first = f"; first unmapped: {compilation.unmapped[0]}" if compilation.unmapped else ""
        counts = f"{compilation.mapped}/{compilation.total} operations on the Edge TPU"
        text = f"{counts} ({percent:g} %), required {required_percent:g} %{first}"
        return StageOutcome(text, outputs, summary, Reason.OPS_NOT_MAPPED)
    return StageOutcome(f"compiled: {compilation.message}", outputs, summary)


def _summary(spec: CompileSpec, compilation: Compilation) -> dict[str, Any]:
    facts = {
        "target": spec.target,
        "compiled": compilation.compiled,
        "compilerVersion": compilation.compiler_version,
        "minRuntimeVersion": compilation.min_runtime_version,
        "mappedPercent": compilation.mapped_percent,
        "unmapped": list(compilation.unmapped[:MAX_UNMAPPED]) or None,
        "reason": None if compilation.compiled else compilation.reason,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _save_files(context: StageContext, compilation: Compilation, summary: Mapping[str, Any]) -> tuple[Artifact, ...]:
    saved = []
    if compilation.path is not None:
        saved.append(context.save("compiled", compilation.path.rename(context.work / EDGETPU_NAME)))
    if compilation.log:
        (context.work / LOG_NAME).write_text(compilation.log, encoding="utf-8")
        saved.append(context.save("log", context.work / LOG_NAME))
    (context.work / COMPILATION_NAME).write_text(json.dumps(summary, sort_keys=True), encoding="utf-8")
    saved.append(context.save("compilation", context.work / COMPILATION_NAME))
    return tuple(saved)
