"""What came of the compile targets of a run, in `status.compile` and in the printer columns. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from atoll_contract.document import replace
from atoll_contract.errors import Reason, bounded
from atoll_contract.release import EDGETPU
from atoll_contract.stage import CompilePolicy
from atoll_operator.api.status import CompileStatus, RunStatus, StageStatus, TargetFigures
from atoll_operator.lifecycle.model import RunView
from atoll_operator.lifecycle.summaries import decimal, mapping
from atoll_operator.lifecycle.transition import skip

SIMULATOR = "simulator"
_SOURCES = (SIMULATOR, "predicted")
_MAX_TEXT = 64


def compile_left_out(run: RunView, stage: StageStatus) -> tuple[Reason, str] | None:
    """Reason and message of a compile stage for which no Job is created. `run` has one target at most."""
    policies = {choice.policy for choice in run.compile}
    if policies <= {CompilePolicy.DISABLED}:
        return Reason.COMPLETED, "compile is Disabled"
    if CompilePolicy.REQUIRED in policies or run.profile is None or stage.attempts > 0:
        return None
    if any(run.profile.can_compile(choice.target) for choice in run.compile):
        return None
    targets = [choice.target for choice in run.compile]
    if targets == [EDGETPU]:
        text = "no Edge TPU compiler is available (the profile names no compile image; locally: edgetpu_compiler)"
    else:
        text = f"no compiler for {', '.join(targets)} is available (the profile names no image for it; docs/targets.md)"
    return Reason.COMPILER_UNAVAILABLE, text


def skip_compile(
    run: RunView, status: RunStatus, stage: StageStatus, *, reason: Reason, message: str, now: datetime
) -> RunStatus:
    """`status` where the compile stage is left out and no target is compiled."""
    return without_compile(run, skip(status, stage, reason=reason, message=message, now=now), reason)


def without_compile(run: RunView, status: RunStatus, reason: Reason) -> RunStatus:
    """`status` in which no target of the run is compiled."""
    known = {item.target: item for item in status.compile}
    entries = tuple(_emptied(known.get(item.target) or CompileStatus(item.target), reason) for item in run.compile)
    return with_target_texts(replace(status, compile=entries))


def _emptied(entry: CompileStatus, reason: Reason) -> CompileStatus:
    predicted = entry.predicted_mapped_percent
    return CompileStatus(entry.target, reason=reason, predicted_mapped_percent=predicted, stage=entry.stage)


def with_compilation(run: RunView, status: RunStatus, reason: Reason, summary: Mapping[str, Any]) -> RunStatus:
    """`status` with the result of a compile stage that ended well. `run` has one target."""
    if summary.get("compiled") is not True:
        return without_compile(run, status, _failure(reason, summary))
    compiled = tuple(
        replace(
            item,
            compiled=True,
            reason=reason,
            mapped_percent=decimal(summary.get("mappedPercent"), digits=1),
            chip=_short_text(summary.get("chip")),
            compiler_version=_short_text(summary.get("compilerVersion")),
            figures=_figures(mapping(summary, "figures")),
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
    return bounded(value, _MAX_TEXT) if isinstance(value, str) and value else None


def _figures(measured: Mapping[str, Any]) -> TargetFigures | None:
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
