"""Inputs of drafts for tests: lint reports, targets, runs that have ended."""

from typing import Any

from atoll_cli.draft.settings import InitialWeights
from atoll_cli.draft.targets import RunTarget
from atoll_contract.document import replace
from atoll_contract.stage import Stage
from atoll_contract.tool_reports import LintClass, LintReport
from atoll_contract.train_spec import InitFrom
from atoll_operator.api.status import Phase, Resolved, RunStatus, StagePhase, StageStatus
from atoll_operator.api.status_codec import write_status
from atoll_operator.api.validation import check


def lint_report(train: int = 800, validation: int = 200, **changes: Any) -> LintReport:
    """The report on images of two classes; `algae` is rare."""
    classes = (
        LintClass("coral", {"train": 2 * train, "validation": 2 * validation}, tiny=3),
        LintClass("algae", {"train": 20, "validation": 5}, tiny=0),
    )
    values: dict[str, Any] = {
        "path": "reefscape.tar",
        "ok": True,
        "reason": "Completed",
        "message": f"{train + validation} pictures, 2 classes",
        "formats": ("supervisely",),
        "pictures": train + validation,
        "split_by": "hash",
        "split": {"train": train, "validation": validation},
        "classes": classes,
    }
    return LintReport(**values | changes)


def target(**changes: Any) -> RunTarget:
    values: dict[str, Any] = {
        "description": "this machine",
        "namespace": "local",
        "cluster": False,
        "initial_weights": InitialWeights(InitFrom.RANDOM),
        "weights_note": "imagenet starts better",
    }
    return RunTarget(**values | changes)


def ended_run(
    name: str = "first",
    *,
    model: str = "reefscape",
    steps: int = 1000,
    train_seconds: int = 500,
    other_seconds: int = 60,
    unloaded_seconds: int | None = None,
    width: str = "0.5",
    batch: int = 8,
    phase: Phase = Phase.SUCCEEDED,
    ended: str = "2027-01-09T19:00:00Z",
    on: str = "auto",
    namespace: str = "local",
) -> dict[str, Any]:
    """A TrainingRun with its status. `on` is its resolved accelerator: gpu, cpu, or auto for the local engine."""
    manifest = {
        "apiVersion": "atoll.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "datasets": [{"key": "datasets/team/pictures.tar"}],
            "model": {"width": width},
            "training": {"steps": steps, "batchSize": batch, "initFrom": {"type": "random"}},
            "publish": {"model": model},
        },
    }
    checked = check(manifest)
    assert checked.problems == ()
    train = StageStatus(Stage.TRAIN, StagePhase.SUCCEEDED, attempts=1, pod_seconds=train_seconds)
    train = replace(train, unloaded_seconds=unloaded_seconds)
    status = RunStatus(
        phase=phase,
        active_seconds=train_seconds + other_seconds,
        completion_time=ended,
        stages=(train,),
        resolved=Resolved("default", "revision", "hash", on),
    )
    metadata = {**checked.value["metadata"], "uid": f"uid-{name}", "creationTimestamp": "2027-01-09T18:00:00Z"}
    return {**checked.value, "metadata": metadata, "status": write_status(status)}
