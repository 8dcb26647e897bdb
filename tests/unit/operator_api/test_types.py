"""Typed specs from documents."""

from pathlib import Path
from typing import Any

import pytest

from atoll_contract.convert_spec import DatasetLimits, Rename, Split
from atoll_contract.errors import SpecError
from atoll_contract.stage import CompilePolicy, Stage
from atoll_contract.train_spec import Accelerator, Architecture, InitFrom
from atoll_operator.api.decode import object_store, training_profile, training_run
from atoll_operator.api.object_store import Credentials, KeyRef
from atoll_operator.api.types import (
    Checkpoint,
    CompileTarget,
    EarlyStopping,
    EnvVar,
    NameRef,
    TrainingRunSpec,
    violation,
)
from atoll_operator.api.validation import check
from support.crd_cases.bounds import PROFILE_FULL, RUN_FULL, STORE_FULL
from support.crd_cases.case import changed
from support.crd_cases.profiles import PINNED, PROFILE
from support.crd_cases.runs import DIGEST, RUN, run
from support.crd_cases.stores import STORE, credentials


def typed(document: Any) -> TrainingRunSpec:
    checked = check(document)
    assert checked.problems == ()
    return training_run(checked.value)


def test_a_minimal_run() -> None:
    spec = typed(RUN)
    assert (spec.profile, spec.object_store, spec.store_names) == ("default", "default", ("default",))
    assert (spec.model.architecture, spec.model.width) == (Architecture.FPNLITE_320, 1.0)
    assert (spec.training.steps, spec.training.batch_size, spec.training.learning_rate) == (None, 16, None)
    assert spec.training.init_from.type is InitFrom.IMAGENET
    assert spec.compile == (CompileTarget("edgetpu", CompilePolicy.BEST_EFFORT),)
    assert (spec.publish.model, spec.publish.channel) == ("note", "stable")
    assert (spec.run_policy.backoff_limit, spec.run_policy.active_deadline_seconds) == (2, None)


def test_a_run_with_every_field() -> None:
    spec = typed(RUN_FULL)
    assert spec.store_names == ("default", "archive")
    assert [dataset.object_store for dataset in spec.datasets] == [None, None, "archive"]
    assert spec.datasets[0].digest == RUN_FULL["spec"]["datasets"][0]["digest"]
    assert spec.conversion.rename[0] == Rename("Coral", "coral")
    assert spec.conversion.split == Split(by="hash", train=70, validation=15, test=15, seed=7)  # type: ignore[arg-type]
    assert spec.conversion.max_invalid_percent == 2.5
    assert (spec.training.init_from.type, spec.training.init_from.release) == (InitFrom.RELEASE, "reefscape-coral-v2")
    assert (spec.training.learning_rate, spec.training.early_stopping) == (0.002, EarlyStopping(5))
    assert (spec.quality.min_ap50, spec.quality.max_ap50_drop, spec.quality.min_mapped_percent) == (0.7, 0.05, 95.0)
    assert spec.run_policy.ttl_seconds_after_finished == 2592000


def test_a_decimal_may_begin_with_zeros() -> None:
    quality = {"minAP50": "0.50", "minMappedPercent": "095.5"}
    spec = typed(run(quality=quality, training={"learningRate": "00.002"}, conversion={"maxInvalidPercent": "002"}))
    assert (spec.quality.min_ap50, spec.quality.min_mapped_percent) == (0.5, 95.5)
    assert (spec.training.learning_rate, spec.conversion.max_invalid_percent) == (0.002, 2.0)
    document = changed(PROFILE, {"spec": {"estimate": {"secondsPerStep": "01.5", "otherSeconds": 60}}})
    estimate = training_profile(check(document).value).estimate
    assert estimate is not None
    assert estimate.seconds_per_step == 1.5


def test_a_run_from_a_checkpoint() -> None:
    start = {"type": "checkpoint", "checkpoint": {"key": "w.h5", "digest": DIGEST}}
    spec = typed(run(training={"initFrom": start}))
    assert spec.training.init_from.checkpoint == Checkpoint("w.h5", DIGEST)


@pytest.mark.parametrize(
    ("training", "steps", "batch_size", "eval_every"),
    [
        ({"hyperparameters": {"train-steps": "500", "batch-size": "8", "eval-frequency": "25"}}, 500, 8, 25),
        ({"hyperparameters": {"epochs": "200", "batch_size": "32"}}, 200, 32, None),
        ({"hyperparameters": {"epochs": "200", "train-steps": "500"}}, 500, 16, None),
        ({"steps": 7, "hyperparameters": {"epochs": "200"}}, 7, 16, None),
        (
            {"steps": 7, "batchSize": 3, "evalEverySteps": 2, "hyperparameters": {"epochs": "9", "batch_size": "9"}},
            7,
            3,
            2,
        ),
    ],
)
def test_the_seeds_names_count_where_no_field_does(
    training: Any, steps: int, batch_size: int, eval_every: int | None
) -> None:
    spec = typed(run(training=training)).training
    assert (spec.steps, spec.batch_size, spec.eval_every_steps) == (steps, batch_size, eval_every)
    assert spec.hyperparameters == {}


def test_a_whole_hyperparameters_file_of_the_seed_is_accepted() -> None:
    file = {"name": "x", "epochs": "200", "batch-size": "16", "eval-frequency": "25", "percent-eval": "30"}
    file |= {"dataset-path": "/wpi-data/x.tar", "checkpoint": "default"}
    spec = typed(run(training={"hyperparameters": file})).training
    assert (spec.steps, spec.batch_size, spec.eval_every_steps) == (200, 16, 25)
    assert set(spec.hyperparameters) == {"name", "percent-eval", "dataset-path", "checkpoint"}


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "many", ""])
def test_a_bad_number_is_named(value: str) -> None:
    unchecked = changed(dict(check(RUN).value), {"spec": {"training": {"hyperparameters": {"epochs": value}}}})
    with pytest.raises(SpecError, match=r'hyperparameters\["epochs"\]'):
        training_run(unchecked)


def test_other_hyperparameters_are_passed_on() -> None:
    values = {"weight-decay": "1e-4", "epochs": "5", "name": "x"}
    assert typed(run(training={"hyperparameters": values})).training.hyperparameters == {
        "weight-decay": "1e-4",
        "name": "x",
    }


def test_a_number_out_of_range_in_a_hyperparameter() -> None:
    with pytest.raises(SpecError, match=r'hyperparameters\["batch_size"\] is .5000.; .* from 1 to 1024'):
        typed(run(training={"hyperparameters": {"batch_size": "5000"}}))


def test_a_store() -> None:
    store = object_store(check(STORE_FULL).value)
    assert (store.bucket, store.prefix, store.credentials.secret_ref) == ("frc", "atoll/", NameRef("s3"))
    assert store.signing_key == KeyRef("k", "ed25519.pem")
    assert store.ca_bundle == KeyRef("ca", "ca.crt")
    assert (store.publish_credentials_ref, store.credentials.anonymous) == (NameRef("w"), False)
    assert store.directory is None


def test_a_stores_other_credentials() -> None:
    assert object_store(check(credentials(anonymous=True)).value).credentials.anonymous
    assert object_store(check(credentials(workloadIdentity={})).value).credentials == Credentials()


def test_a_folder_store() -> None:
    document = changed(STORE, {"metadata": {"annotations": {"atoll.dev/directory": "./atoll-store"}}})
    assert object_store(check(document).value).directory == Path("atoll-store")


def test_a_profile() -> None:
    profile = training_profile(check(PROFILE_FULL).value)
    assert profile.images.of(Stage.EXPORT) == PINNED
    assert profile.images.of(Stage.TRAIN, gpu=True) == PINNED
    assert profile.resources[Stage.TRAIN].requests == {"cpu": "1"}
    assert (profile.gpu.runtime_class_name, profile.priority_class_name, profile.scratch.size_limit) == (
        "nvidia",
        "low",
        "1Gi",
    )
    assert (profile.env, profile.node_selector) == ((EnvVar("A", "b"),), {"gpu": "yes"})
    assert profile.limits.dataset.archive_bytes == 10


def test_a_minimal_profile() -> None:
    profile = training_profile(check(PROFILE).value)
    assert profile.images.of(Stage.COMPILE) is None
    assert profile.images.of(Stage.TRAIN, gpu=True) is None
    assert [profile.images.of(stage) for stage in (Stage.CONVERT, Stage.TRAIN, Stage.PUBLISH)] == [PINNED] * 3
    assert profile.limits.dataset == DatasetLimits()
    assert (profile.priority_class_name, profile.gpu.runtime_class_name, profile.max_concurrent_runs) == ("", None, 1)


def test_quantities_may_be_numbers() -> None:
    document = changed(PROFILE, {"spec": {"resources": {"train": {"limits": {"cpu": 2}}}}})
    assert training_profile(check(document).value).resources[Stage.TRAIN].limits == {"cpu": 2}


def test_limits_of_the_profile() -> None:
    limits = {"limits": {"maxSteps": 100, "activeDeadlineSeconds": 60}}
    profile = training_profile(check(changed(PROFILE, {"spec": limits})).value)
    fine = run(training={"steps": 100}, runPolicy={"activeDeadlineSeconds": 60})
    assert violation(typed(fine), profile, profile_name="gpu") is None
    more = violation(typed(run(training={"steps": 101})), profile, profile_name="gpu")
    assert more is not None
    assert more.startswith("101 training steps exceed the 100 of TrainingProfile gpu")
    longer = violation(
        typed(run(training={"steps": 1}, runPolicy={"activeDeadlineSeconds": 61})), profile, profile_name="gpu"
    )
    assert longer is not None
    assert longer.startswith("a deadline of 61 s exceeds the 60 s of TrainingProfile gpu")


def test_shards_are_limited_where_the_profile_says_so() -> None:
    limited = training_profile(check(changed(PROFILE, {"spec": {"limits": {"maxShards": 3}}})).value)
    unlimited = training_profile(check(PROFILE).value)
    asked = typed(run(conversion={"shards": 4}))
    assert violation(typed(run(conversion={"shards": 3})), limited, profile_name="gpu") is None
    assert violation(typed(run()), limited, profile_name="gpu") is None
    assert violation(asked, unlimited, profile_name="gpu") is None
    assert violation(asked, limited, profile_name="gpu") == (
        "4 shards exceed the 3 of TrainingProfile gpu; copy the run with fewer, or ask the cluster's administrator to "
        "raise limits.maxShards"
    )


def test_accelerators() -> None:
    assert typed(run(training={"accelerator": "gpu", "gpus": 2})).training.accelerator is Accelerator.GPU
