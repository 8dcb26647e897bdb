"""What `check` says beyond the rules: defaults, unknown fields with their near matches, advice, identity."""

from typing import Any

import pytest

from atoll_operator.api.validation import check
from support.crd_cases.case import changed
from support.crd_cases.profiles import PROFILE
from support.crd_cases.runs import RUN, run
from support.crd_cases.stores import STORE


def problems(document: Any) -> list[str]:
    return [str(problem) for problem in check(document).problems]


def test_defaults_of_a_run_are_those_that_a_real_server_stored() -> None:
    assert check(RUN).value["spec"] == {
        "suspend": False,
        "cancel": False,
        "profileRef": {"name": "default"},
        "objectStoreRef": {"name": "default"},
        "datasets": [{"key": "datasets/team/a.tar", "format": "auto"}],
        "conversion": {
            "classes": [],
            "rename": [],
            "ignore": [],
            "split": {"by": "auto", "train": 80, "validation": 20, "test": 0, "seed": 0},
            "maxInvalidPercent": "1",
        },
        "model": {"architecture": "ssd-mobilenet-v2-fpnlite-320", "width": "1.0"},
        "training": {
            "initFrom": {"type": "imagenet"},
            "seed": 0,
            "accelerator": "auto",
            "gpus": 1,
            "hyperparameters": {},
        },
        "quality": {},
        "compile": [{"target": "edgetpu", "policy": "BestEffort"}],
        "publish": {"model": "note", "channel": "stable"},
        "runPolicy": {"backoffLimit": 2, "jobTTLSecondsAfterFinished": 86400},
    }


def test_the_given_document_is_not_changed() -> None:
    document = changed(RUN, {"spec": {"training": {"initFrom": {"type": "random"}}}})
    check(document)
    assert document == changed(RUN, {"spec": {"training": {"initFrom": {"type": "random"}}}})


def test_a_status_is_dropped() -> None:
    assert "status" not in check(RUN | {"status": {"phase": "Succeeded"}}).value


def test_other_defaults() -> None:
    assert check(STORE).value["spec"]["prefix"] == ""
    profile = check(PROFILE).value["spec"]
    assert profile["limits"]["dataset"]["archiveBytes"] == 50 * 2**30
    assert profile["serviceAccounts"] == {"stage": "default", "publish": "default"}
    assert profile["propagateLabels"] == ["kueue.x-k8s.io/queue-name"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (
            run(training={"batch_size": 4}),
            'spec.training.batch_size: unknown field "spec.training.batch_size"; did you mean',
        ),
        (run(steps=5), "the field is spec.training.steps"),
        (run(training={"zzz": 1}), "fields of spec.training are accelerator, batchSize"),
        (
            changed(STORE, {"spec": {"credentials": {"secretRef": {"name": "s3", "zzz": 1}}}}),
            "fields of spec.credentials",
        ),
        (run(training={"learningRate": 0.02}), 'put it in quotes: "0.02"'),
        (run(training={"steps": "500"}), "write it without quotes"),
        (run(model={"architecture": "ssd-mobilenet-v2-fpnlite-192x"}), 'did you mean "ssd-mobilenet-v2-fpnlite-192"?'),
        (run(publish={"model": "Note"}), "at most 40 characters of a-z, 0-9"),
        (run(conversion={"ignore": ["a", "a"]}), "it is in spec.conversion.ignore[0] already"),
        (changed(RUN, {"metadata": {"lables": {}}}), 'did you mean "labels"?'),
        (changed(RUN, {"metadata": {"labels": {"season": 2027}}}), "metadata.labels.season: Invalid value: 2027"),
        (changed(RUN, {"metadata": {"labels": {"a/b": "c d"}}}), "metadata.labels[a/b]: Invalid value"),
        (changed(RUN, {"metadata": {"namespace": "Team"}}), "a namespace must consist of"),
        (changed(RUN, {"metadata": {"name": ""}}), "give the object a name"),
        (RUN | {"metadata": []}, "metadata: Invalid value"),
        (
            changed(RUN, {"apiVersion": "atoll.dev/v1"}),
            'apiVersion: Invalid value: "atoll.dev/v1": must be atoll.dev/v1alpha1',
        ),
        (changed(RUN, {"kind": "TrainigRun"}), 'did you mean "TrainingRun"?'),
        (changed(RUN, {"kind": "Pod"}), "kinds are EdgeDevice, ModelRelease"),
        ({}, "write apiVersion: atoll.dev/v1alpha1"),
        ([], "an object must be a mapping"),
        ("text", "an object must be a mapping"),
    ],
)
def test_problems_have_advice(document: Any, says: str) -> None:
    assert any(says in problem for problem in problems(document)), problems(document)


def test_all_problems_are_reported_at_once() -> None:
    document = run(suspend="no", training={"steps": 0, "lr": 1}, conversion={"split": {"train": 50}})
    said = problems(document)
    assert len(said) == 4
    assert {problem.split(":")[0] for problem in said} == {
        "spec.suspend",
        "spec.training.steps",
        "spec.training.lr",
        "spec.conversion.split",
    }


def test_generated_names_are_names() -> None:
    document = changed(RUN, {"metadata": {"generateName": "note-"}})
    del document["metadata"]["name"]
    assert [problem for problem in problems(document) if "is required" in problem] == []
