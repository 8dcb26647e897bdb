"""An estimate rests on a run of the same kind, or on the profile, and says so."""

from __future__ import annotations

from typing import Any

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.crds import definitions
from atoll_operator.api.decode import training_run
from atoll_operator.api.defaults import defaulted
from atoll_operator.api.figures import DatasetStatus
from atoll_operator.api.status import Estimate, Phase, Resolved, RunStatus, StagePhase, StageStatus
from atoll_operator.api.status_codec import write_status
from atoll_operator.api.types import Decimal, NameRef, ProfileEstimate, TrainingRunSpec
from atoll_operator.controller.queue import EstimateModel, QueueManager
from cluster.objects import run_manifest

ENDED = "2027-01-09T12:00:00Z"
DEFAULT = ProfileEstimate(seconds_per_step=Decimal(0.5), other_seconds=60)


def run(name: str, status: RunStatus | None = None, **training: Any) -> dict[str, Any]:
    """A run with the API server's defaults: 20 steps of 4 images, unless said otherwise."""
    manifest = run_manifest(name)
    manifest["spec"]["training"] |= training
    if training.get("steps", 1) is None:
        del manifest["spec"]["training"]["steps"]
    document: dict[str, Any] = defaulted(manifest, definitions()["TrainingRun"].schema)
    metadata = {"namespace": "team", "uid": f"uid-{name}", "creationTimestamp": "2027-01-09T11:00:00Z"}
    document["metadata"] |= metadata
    return document | ({"status": write_status(status)} if status else {})


def spec(name: str = "next", **training: Any) -> TrainingRunSpec:
    return training_run(run(name, **training))


def done(*, train: int, active: int, ended: str = ENDED, reason: Reason = Reason.COMPLETED) -> RunStatus:
    stages = [StageStatus(stage, phase=StagePhase.SUCCEEDED) for stage in Stage]
    stages[1] = replace(stages[1], pod_seconds=train, reason=reason)
    resolved = Resolved("default", "atoll-profile-1", "sha256:0", "cpu")
    return RunStatus(
        phase=Phase.SUCCEEDED,
        completion_time=ended,
        active_seconds=active,
        stages=tuple(stages),
        resolved=resolved,
    )


@pytest.fixture
def estimates() -> EstimateModel:
    return EstimateModel()


def learn(estimates: EstimateModel, name: str, status: RunStatus, **training: Any) -> None:
    estimates.learn(run(name, **training), status)


def test_a_run_takes_as_long_as_the_one_before_by_the_images_it_sees(estimates: EstimateModel) -> None:
    learn(estimates, "before", done(train=40, active=100))
    # 20 steps of 4 images took 40 s: half a second for a image.
    longer = estimates.estimate("team", spec(steps=200, batchSize=8), on="cpu", default=DEFAULT)
    assert longer == Estimate(860, "4.0 s a step as in run before, and 60 s for the other stages")


def test_the_steps_that_the_stage_chose_count_by_the_images_of_the_run(estimates: EstimateModel) -> None:
    before = replace(done(train=1340, active=1340), dataset=DatasetStatus(digest="d", train=100))
    # 100 images from random weights: 1200 steps of 4, a little more than a quarter of a second for an image.
    learn(estimates, "before", before, steps=None)
    estimate = estimates.estimate("team", spec(steps=100, batchSize=8), on="cpu", default=None)
    assert estimate is not None
    assert estimate.seconds == round(1340 / (1200 * 4) * 8 * 100)


def test_the_newest_run_counts_whatever_the_order_they_are_seen_in(estimates: EstimateModel) -> None:
    learn(estimates, "newest", done(train=80, active=80, ended="2027-01-09T12:00:02Z"))
    learn(estimates, "older", done(train=40, active=40, ended="2027-01-09T12:00:01Z"))
    estimate = estimates.estimate("team", spec(), on="cpu", default=None)
    assert estimate is not None
    assert (estimate.seconds, "run newest" in estimate.basis) == (80, True)


@pytest.mark.parametrize(
    ("namespace", "on", "changes"),
    [("other", "cpu", {}), ("team", "gpu", {}), ("team", "cpu", {"gpus": 2})],
    ids=["namespace", "accelerator", "GPUs"],
)
def test_a_run_of_another_kind_does_not_count(
    estimates: EstimateModel, namespace: str, on: str, changes: dict[str, Any]
) -> None:
    learn(estimates, "before", done(train=40, active=40))
    assert estimates.estimate(namespace, spec(**changes), on=on, default=None) is None


def test_width_and_profile_make_another_kind(estimates: EstimateModel) -> None:
    learn(estimates, "before", done(train=40, active=40))
    own = spec()
    narrow = replace(own, model=replace(own.model, width=Decimal(0.5)))
    for changed in (narrow, replace(own, profile_ref=NameRef("gpu"))):
        assert changed != own
        assert estimates.estimate("team", changed, on="cpu", default=None) is None


def test_a_training_that_was_adopted_does_not_count(estimates: EstimateModel) -> None:
    learn(estimates, "before", done(train=3, active=40, reason=Reason.ADOPTED))
    assert estimates.estimate("team", spec(), on="cpu", default=None) is None


def test_without_a_run_the_profiles_estimate_counts_and_without_that_there_is_none(estimates: EstimateModel) -> None:
    estimate = estimates.estimate("team", spec(), on="cpu", default=DEFAULT)
    # 20 steps of 4 images, where 16 take half a second.
    text = "0.12 s a step by TrainingProfile default, and 60 s for the other stages"
    assert estimate == Estimate(62, text)
    assert estimates.estimate("team", spec(), on="cpu", default=None) is None


def test_what_a_deleted_run_needed_is_still_known() -> None:
    queue = QueueManager()
    before = run("before")
    queue.record(before, done(train=40, active=40))
    queue.forget(("team", "before"))
    assert queue.estimates.estimate("team", spec(), on="cpu", default=None) is not None


def test_a_failed_run_does_not_count(estimates: EstimateModel) -> None:
    failed = replace(done(train=40, active=40), phase=Phase.FAILED)
    learn(estimates, "failed", failed)
    assert estimates.estimate("team", spec(), on="cpu", default=None) is None
