"""TrainingRuns that are changed."""

from typing import Any

from support.crd_cases.case import ABSENT, Case, Document, accepted, changed, refused
from support.crd_cases.runs import RUN

OLD: Document = changed(
    RUN,
    {
        "spec": {
            "datasets": [{"key": "a.tar"}, {"key": "b.tar"}],
            "conversion": {"ignore": ["x", "y"], "classes": ["a", "b"]},
            "training": {"steps": 100, "hyperparameters": {"batch_size": "8"}},
            "quality": {"minAP50": "0.5"},
            "runPolicy": {"activeDeadlineSeconds": 600, "ttlSecondsAfterFinished": 60},
        }
    },
)


def _same(name: str, **spec: Any) -> Case:
    return accepted(name, changed(OLD, {"spec": spec}), old=OLD)


def _other(name: str, field: str, **spec: Any) -> Case:
    says = f"spec.{field} is immutable; copy the run under a new name and apply that"
    return refused(name, changed(OLD, {"spec": spec}), says, old=OLD)


_POLICY = "of spec.runPolicy only ttlSecondsAfterFinished and jobTTLSecondsAfterFinished may change"
_CANCELLED = changed(OLD, {"spec": {"cancel": True}})
_NO_DEADLINE = changed(OLD, {"spec": {"runPolicy": {"activeDeadlineSeconds": ABSENT}}})

UPDATE_CASES: tuple[Case, ...] = (
    _same("update-nothing"),
    _same("update-suspend", suspend=True),
    _same("update-cancel", cancel=True),
    refused("update-cancel-back", OLD, "spec.cancel cannot be taken back", old=_CANCELLED),
    _same("update-ttls", runPolicy={"ttlSecondsAfterFinished": 0, "jobTTLSecondsAfterFinished": 0}),
    _same("update-ttl-away", runPolicy={"ttlSecondsAfterFinished": ABSENT}),
    _same("update-order-of-datasets", datasets=[{"key": "b.tar"}, {"key": "a.tar"}]),
    _same("update-order-of-ignored", conversion={"ignore": ["y", "x"]}),
    _same("update-default-written-out", compile=[{"target": "edgetpu", "policy": "BestEffort"}]),
    accepted("update-labels", changed(OLD, {"metadata": {"labels": {"season": "2027"}}}), old=OLD),
    _other("update-profile", "profileRef", profileRef={"name": "other"}),
    _other("update-store", "objectStoreRef", objectStoreRef={"name": "other"}),
    _other("update-dataset", "datasets", datasets=[{"key": "a.tar"}]),
    _other("update-dataset-format", "datasets", datasets=[{"key": "a.tar", "format": "coco"}, {"key": "b.tar"}]),
    _other(
        "update-dataset-store",
        "datasets",
        datasets=[{"key": "a.tar"}, {"key": "b.tar", "objectStoreRef": {"name": "o"}}],
    ),
    _other("update-order-of-classes", "conversion", conversion={"classes": ["b", "a"]}),
    _other("update-conversion-away", "conversion", conversion=ABSENT),
    _other("update-model", "model", model={"width": "0.5"}),
    _other("update-steps", "training", training={"steps": 200}),
    _other("update-steps-away", "training", training={"steps": ABSENT}),
    _other("update-hyperparameters", "training", training={"hyperparameters": {"epochs": "5"}}),
    _other("update-quality", "quality", quality={"minAP50": "0.1"}),
    _other("update-quality-away", "quality", quality=ABSENT),
    _other("update-quality-more", "quality", quality={"maxAP50Drop": "0.1"}),
    _other("update-compile", "compile", compile=[]),
    _other("update-publish", "publish", publish={"model": "other"}),
    _other("update-channel", "publish", publish={"channel": "candidate"}),
    refused("update-backoff", changed(OLD, {"spec": {"runPolicy": {"backoffLimit": 5}}}), _POLICY, old=OLD),
    refused("update-deadline", changed(OLD, {"spec": {"runPolicy": {"activeDeadlineSeconds": 700}}}), _POLICY, old=OLD),
    refused("update-deadline-away", _NO_DEADLINE, _POLICY, old=OLD),
    refused("update-deadline-added", OLD, _POLICY, old=_NO_DEADLINE),
)
