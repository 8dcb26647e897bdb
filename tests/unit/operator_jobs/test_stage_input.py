"""From typed specs to the stages' input."""

from pathlib import Path
from typing import Any

import pytest

from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.document import to_json
from atoll_contract.errors import SpecError
from atoll_contract.images import Resize
from atoll_contract.keys import RunRef
from atoll_contract.release import ManifestRef
from atoll_contract.rollout import RolloutPlan, RolloutStep
from atoll_contract.stage import CompilePolicy, Stage, StageInput
from atoll_contract.store import directory_store
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_contract.train_spec import Accelerator, InitFrom, Preset, StartWeights, TrainSpec
from atoll_operator.api.decode import object_store, training_profile, training_run
from atoll_operator.api.object_store import ObjectStoreSpec
from atoll_operator.api.types import TrainingRunSpec
from atoll_operator.api.validation import check
from atoll_operator.jobs.build_inputs import MUTABLE
from atoll_operator.jobs.stage_input import (
    Work,
    credentials_secret_of,
    relative_key,
    spec_digest,
    stage_input,
    store_spec,
)
from atoll_operator.lifecycle.model import StageAttempt
from support.crd_cases.bounds import RUN_FULL, STORE_FULL
from support.crd_cases.case import Document, changed
from support.crd_cases.profiles import PROFILE
from support.crd_cases.runs import DIGEST, RUN, run
from support.crd_cases.stores import STORE, credentials, store

S3 = StoreSpec(type=StoreType.S3, bucket="frc", prefix="atoll/")
ARCHIVE = changed(credentials(anonymous=True), {"spec": {"bucket": "frc-archive"}})
FOLDER = directory_store(Path("/store"))


def typed(document: Any) -> TrainingRunSpec:
    checked = check(document)
    assert checked.problems == ()
    return training_run(checked.value)


def opened(document: Any) -> ObjectStoreSpec:
    return object_store(check(document).value)


def given(
    document: Any, stage: Stage, *, release: ManifestRef | None = None, limits: Document | None = None
) -> StageInput:
    """What a stage of the run gets; its stores are `default` and `archive`, as the full run names them."""
    profile = training_profile(check(changed(PROFILE, {"spec": {"limits": {"dataset": limits or {}}}})).value)
    stores = {"default": opened(STORE_FULL), "archive": opened(ARCHIVE)}
    work = Work(RunRef("team", "note", "1"), typed(document), profile, stores, start_release=release)
    return stage_input(work, StageAttempt(stage, 1, {}, 60, accelerator="cpu", version=3))


def trained(document: Any, release: ManifestRef | None = None) -> TrainSpec:
    section = given(document, Stage.TRAIN, release=release).train
    assert section is not None
    return section


def test_convert() -> None:
    spec = given(RUN_FULL, Stage.CONVERT, limits={"members": 7}).convert
    assert spec is not None
    assert [source.key for source in spec.sources] == [
        "datasets/team-190/reefscape.tar",
        "datasets/team-190/practice/",
        "2025/notes.zip",
    ]
    stores = [source.store for source in spec.sources]
    assert stores == [None, None, StoreSpec(type=StoreType.S3, bucket="frc-archive", anonymous=True)]
    assert (spec.classes, spec.ignore, spec.max_invalid_percent) == (("coral", "algae"), ("robot",), 2.5)
    assert spec.limits == DatasetLimits(members=7)


def test_naming_the_runs_own_store_is_no_other_store() -> None:
    document = run(datasets=[{"key": "a.tar", "objectStoreRef": {"name": "default"}}])
    spec = given(document, Stage.CONVERT).convert
    assert spec is not None
    assert [source.store for source in spec.sources] == [None]


@pytest.mark.parametrize(
    ("key", "relative"),
    [("datasets/a.tar", "datasets/a.tar"), ("s3://frc/atoll/a.tar", "a.tar"), ("s3://frc/atoll/team/", "team/")],
)
def test_keys_become_relative(key: str, relative: str) -> None:
    assert relative_key(key, store=S3, field="key") == relative


@pytest.mark.parametrize("key", ["s3://other/atoll/a.tar", "s3://frc/a.tar", "s3://frc/atollx/a.tar", "s3://frc/atoll"])
def test_keys_outside_the_store_are_refused(key: str) -> None:
    with pytest.raises(SpecError, match=r"spec.key is .* does not lie in its ObjectStore at s3://frc/atoll/"):
        relative_key(key, store=S3, field="spec.key")


def test_a_full_key_is_refused_for_a_folder() -> None:
    with pytest.raises(SpecError, match="write the key relative to that folder"):
        relative_key("s3://frc/atoll/a.tar", store=FOLDER, field="spec.key")


def test_train() -> None:
    spec = trained(RUN_FULL, ManifestRef("models/m.json", "ab", 1))
    assert (spec.init_from.type, spec.init_from.key, spec.init_from.sha256) == (InitFrom.RELEASE, "models/m.json", "ab")
    assert (spec.steps, spec.batch_size, spec.width, spec.learning_rate) == (4000, 32, 1.0, 0.002)
    assert (spec.accelerator, spec.eval_every_steps, spec.early_stopping_patience) == (Accelerator.CPU, 200, 5)


def test_train_from_a_checkpoint() -> None:
    start = {"type": "checkpoint", "checkpoint": {"key": "s3://frc/atoll/weights/w.h5", "digest": DIGEST}}
    weights = trained(run(training={"initFrom": start})).init_from
    assert (weights.key, weights.sha256) == ("weights/w.h5", DIGEST[7:])


def test_train_from_a_release_that_is_not_published() -> None:
    with pytest.raises(SpecError, match=r"'reefscape-coral-v2' .* is not published"):
        trained(RUN_FULL)


def test_hyperparameters_reach_the_train_stage() -> None:
    spec = trained(run(training={"hyperparameters": {"epochs": "5", "weight-decay": "0.1"}}))
    assert (spec.steps, spec.hyperparameters) == (5, {"weight-decay": "0.1"})


def test_steps_that_are_left_open_are_chosen_by_the_stage_within_the_profiles_limit() -> None:
    spec = trained(run())
    assert (spec.preset, spec.max_steps) == (Preset.AUTO, training_profile(check(PROFILE).value).limits.max_steps)
    given = trained(run(training={"steps": 5}))
    assert (given.preset, given.steps, given.max_steps) == (Preset.AUTO, 5, None)
    plain = trained(run(training={"preset": "plain"}))
    assert (plain.preset, plain.steps, plain.max_steps) == (Preset.PLAIN, 1000, None)


def test_export_compile_publish() -> None:
    document = changed(RUN_FULL, {"spec": {"training": {"initFrom": {"type": "random"}}}})
    del document["spec"]["training"]["initFrom"]["releaseRef"]
    export = given(document, Stage.EXPORT).export
    assert export is not None
    assert (export.train, export.quality.min_ap50) == (trained(document), 0.7)
    compiled = given(document, Stage.COMPILE).compile
    assert compiled is not None
    assert (compiled.policy, compiled.min_mapped_percent) == (CompilePolicy.BEST_EFFORT, 95.0)
    publish = given(document, Stage.PUBLISH).publish
    assert publish is not None
    assert (publish.model, publish.channel, publish.version) == ("reefscape-coral", "stable", 3)


def test_without_targets_there_is_nothing_to_compile() -> None:
    assert given(run(compile=[]), Stage.COMPILE).compile is None


def test_stores() -> None:
    spec = store_spec(opened(STORE_FULL), credentials_dir="/c", ca_bundle_path="/ca.crt")
    assert (spec.type, spec.bucket, spec.prefix, spec.endpoint) == (StoreType.S3, "frc", "atoll/", "https://minio:9000")
    assert (spec.credentials_dir, spec.ca_bundle_path, spec.anonymous) == ("/c", "/ca.crt", False)


def test_an_anonymous_store_is_published_to_with_its_other_secret() -> None:
    anonymous = opened(changed(credentials(anonymous=True), {"spec": {"publishCredentialsRef": {"name": "w"}}}))
    assert store_spec(anonymous).anonymous
    assert not store_spec(anonymous, for_publish=True).anonymous
    assert credentials_secret_of(anonymous) is None
    assert credentials_secret_of(anonymous, for_publish=True) == "w"


def test_secrets_of_a_store() -> None:
    plain = opened(STORE)
    assert credentials_secret_of(plain) == "s3"
    assert credentials_secret_of(plain, for_publish=True) == "s3"


def test_a_folder_store_needs_no_secret() -> None:
    annotated = changed(store(), {"metadata": {"annotations": {"atoll.dev/directory": "/store"}}})
    assert store_spec(opened(annotated)) == FOLDER
    assert credentials_secret_of(opened(annotated)) is None


def test_the_digest_of_a_spec_leaves_out_what_may_change() -> None:
    def digest(document: Any) -> str:
        return spec_digest(check(document).value)

    assert digest(RUN) == digest(run(suspend=True, cancel=True, runPolicy={"ttlSecondsAfterFinished": 5}))
    assert digest(RUN) == digest(run(training={"gpus": 1}))
    assert digest(RUN) != digest(run(training={"steps": 5}))


def test_a_roll_out_comes_in_the_order_of_its_steps() -> None:
    steps = [{"percent": 100, "afterSeconds": 7200}, {"percent": 10}]
    section = given(run(publish={"model": "note", "rollout": {"steps": steps}}), Stage.PUBLISH).publish
    assert section is not None
    assert section.rollout == RolloutPlan((RolloutStep(10), RolloutStep(100, 7200)), halt_at=1)
    assert given(RUN, Stage.PUBLISH).publish.rollout is None  # type: ignore[union-attr]


def test_the_widths_of_objects_reach_the_release_as_numbers() -> None:
    section = given(run(publish={"model": "note", "objectWidths": {"note": "0.36"}}), Stage.PUBLISH).publish
    assert section is not None
    assert section.object_widths == {"note": 0.36}
    assert given(RUN, Stage.PUBLISH).publish.object_widths is None  # type: ignore[union-attr]


def test_publish_gets_what_its_release_says_of_its_making() -> None:
    section = given(RUN_FULL, Stage.PUBLISH).publish
    assert section is not None
    inputs = section.inputs
    assert inputs is not None
    assert set(MUTABLE).isdisjoint(inputs.spec)
    assert inputs.spec["publish"]["model"] == section.model
    assert inputs.spec["conversion"]["classes"] == ["coral", "algae"]
    assert {"convert", "train", "export", "publish"} <= inputs.images.keys()
    assert inputs.profile_sha256 is not None
    other = given(RUN_FULL, Stage.PUBLISH, limits={"members": 7}).publish
    assert other is not None
    assert other.inputs is not None
    assert other.inputs.profile_sha256 != inputs.profile_sha256
    # The release that training started from may be gone by now.
    assert inputs.start_weights == StartWeights(InitFrom.RELEASE)
    release = ManifestRef("models/team/note/v2/manifest.json", "a" * 64, 1)
    started = given(RUN_FULL, Stage.PUBLISH, release=release).publish
    assert started is not None
    assert started.inputs is not None
    assert started.inputs.start_weights == StartWeights(InitFrom.RELEASE, release.key, release.sha256)


@pytest.mark.parametrize("how", Resize)
def test_training_and_export_are_told_how_images_become_the_input(how: Resize) -> None:
    document = run(model={"preprocessing": {"resize": str(how)}})
    train, export = given(document, Stage.TRAIN).train, given(document, Stage.EXPORT).export
    assert train is not None
    assert export is not None
    assert train.resize is export.train.resize is how


def test_a_run_without_the_word_is_the_document_that_it_was() -> None:
    train = given(RUN, Stage.TRAIN).train
    assert train is not None
    assert train.resize is Resize.SQUASH
    assert b"preprocessing" not in to_json(given(RUN, Stage.TRAIN))
