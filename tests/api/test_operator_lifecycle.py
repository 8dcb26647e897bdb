"""The life of runs under the real operator on a real API server; the test plays the kubelet."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import kubernetes.client
import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage, StageInput
from atoll_operator.api.status import MAX_STATUS_BYTES, parse_time
from atoll_operator.api.status_codec import read_status, write_status
from atoll_operator.jobs.manifest import job_name
from cluster.kubelet import Kubelet, StageEnd, failing, run_on, succeed
from cluster.objects import Objects, profile_manifest, run_manifest
from cluster.operator_process import OperatorProcess
from support.polling import wait_until

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("operator", "kubelet")]


def start_run(team: Objects, name: str, **spec: Any) -> dict[str, Any]:
    """A run that publishes a model of its own, unless told otherwise."""
    settings = {"profileRef": {"name": team.namespace}, "publish": {"model": name}} | spec
    return team.create("trainingruns", run_manifest(name, **settings))


def stage_of(status: dict[str, Any], stage: Stage) -> dict[str, Any]:
    return next(item for item in status["stages"] if item["name"] == stage)


def jobs_of(team: Objects, run: str) -> dict[str, dict[str, Any]]:
    return {name: job for name, job in team.jobs().items() if job["metadata"]["labels"].get("atoll.dev/run") == run}


@pytest.fixture(scope="module")
def finished(team: Objects, operator: OperatorProcess, kubelet: Kubelet) -> dict[str, Any]:
    """The status of the run `whole`, which went all the way."""
    start_run(team, "whole")
    return team.wait_for_phase("whole", "Succeeded", "Failed")


def test_a_run_goes_all_the_way(finished: dict[str, Any]) -> None:
    assert [(stage["name"], stage["phase"], stage["attempts"]) for stage in finished["stages"]] == [
        (stage, "Succeeded", 1) for stage in Stage
    ]
    assert finished["summary"] == {"ap50": "0.88", "targets": "98%", "tpu": "98%", "release": "whole-v1"}


def test_the_schema_keeps_every_field_of_the_status(finished: dict[str, Any]) -> None:
    assert len(json.dumps(finished)) <= MAX_STATUS_BYTES
    # A field that the schema lacks is pruned without a word, and would be written again at every look.
    parsed = read_status(finished)
    assert parsed is not None
    assert write_status(parsed) == finished


def test_a_finished_run_leaves_a_published_release_that_has_no_owner(team: Objects, finished: dict[str, Any]) -> None:
    release = team.get("modelreleases", finished["summary"]["release"])
    assert release is not None
    assert "ownerReferences" not in release["metadata"]
    assert release["status"]["published"] is True
    assert release["status"]["manifest"]["key"] == f"models/{team.namespace}/whole/v1/manifest.json"


def test_each_of_several_targets_has_a_job_and_one_that_fails_leaves_the_others(
    team: Objects, kubelet: Kubelet
) -> None:
    qnn = failing(Reason.QUALITY_GATE_FAILED, "maxAP50Drop of qnn: measured 0.3", exit_code=45)
    kubelet.scripts["chips", Stage.COMPILE] = lambda given, pod: (qnn if given.target == "qnn" else succeed)(given, pod)
    targets = [{"target": name} for name in ("edgetpu", "rknn", "qnn")]
    start_run(team, "chips", compile=targets)
    status = team.wait_for_phase("chips", "Succeeded", "Failed", timeout_seconds=180)
    assert status["phase"] == "Succeeded", status["message"]
    assert status["summary"]["targets"] == "edgetpu 98%, rknn 98%, qnn refused"
    parsed = read_status(status)
    assert parsed is not None
    assert write_status(parsed) == status
    jobs = [job["metadata"]["labels"] for job in jobs_of(team, "chips").values()]
    found = sorted((labels["atoll.dev/stage"], labels.get("atoll.dev/target", "")) for labels in jobs)
    several = [("compile", "edgetpu"), ("compile", "qnn"), ("compile", "rknn")]
    assert found == [*several, ("convert", ""), ("publish", ""), ("train", "")]


@pytest.mark.usefixtures("finished")
def test_nobody_puts_a_finalizer_or_an_annotation_on_a_run(team: Objects) -> None:
    run = team.get("trainingruns", "whole")
    assert run is not None
    assert not {"finalizers", "annotations"} & set(run["metadata"])


@pytest.mark.usefixtures("finished")
def test_transitions_are_told_by_events(team: Objects) -> None:
    def reasons() -> set[str] | None:
        found = {event["reason"] for event in team.events("whole")}
        return found if "Completed" in found else None

    told = wait_until(reasons, what="the last Event")
    # A stage that ends before its pods are first read is told by its end alone.
    assert {"Admitted", "StageSucceeded", "ReleasePublished", "Completed"} <= told


def test_the_profile_is_kept_as_it_was_at_the_start(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["kept", Stage.CONVERT] = run_on
    team.create_profile(profile_manifest(f"{team.namespace}-kept"))
    start_run(team, "kept", profileRef={"name": f"{team.namespace}-kept"})
    team.wait_for_phase("kept", "Converting")
    wait_until(lambda: jobs_of(team, "kept"), what="the first Job")
    started = "StageStarted"
    wait_until(lambda: started in {event["reason"] for event in team.events("kept")}, what="the Event of its start")
    changed = profile_manifest("x")["spec"]["images"] | {"train": f"registry.invalid/other@sha256:{'1' * 64}"}
    team.patch_profile(f"{team.namespace}-kept", {"spec": {"images": changed}})
    del kubelet.scripts["kept", Stage.CONVERT]
    wait_until(lambda: len(jobs_of(team, "kept")) > 1, what="the train Job")
    images = {
        container["image"]
        for job in jobs_of(team, "kept").values()
        for container in job["spec"]["template"]["spec"]["containers"]
    }
    assert images == {f"registry.invalid/atoll/stage@sha256:{'0' * 64}"}


def test_C13_a_status_that_names_another_profile_stops_the_run(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["forged", Stage.CONVERT] = run_on
    start_run(team, "forged")
    team.create_profile(profile_manifest(f"{team.namespace}-evil", maxConcurrentRuns=9))
    start_run(team, "other", profileRef={"name": f"{team.namespace}-evil"})
    other = team.wait_for_phase("other", "Succeeded", "Failed")
    team.wait_for_phase("forged", "Converting")
    # All three say the same, and the snapshot exists: only the spec tells that it is not this run's.
    team.patch_status("trainingruns", "forged", {"status": {"resolved": other["resolved"]}})
    status = team.wait_for_phase("forged", "Failed")
    assert status["reason"] == "ProfileChanged"
    wait_until(lambda: not jobs_of(team, "forged"), what="its Job to be deleted")


def test_a_broken_picture_archive_ends_the_run_with_the_stages_own_words(team: Objects, kubelet: Kubelet) -> None:
    words = 'member 17 "../../etc/passwd": path leaves the archive'
    kubelet.scripts["unsafe", Stage.CONVERT] = failing(Reason.DATASET_UNSAFE, words, exit_code=11)
    start_run(team, "unsafe")
    status = team.wait_for_phase("unsafe", "Failed", "Succeeded")
    assert (status["reason"], status["message"]) == ("DatasetUnsafe", words)
    assert list(jobs_of(team, "unsafe")) == [status["stages"][0]["jobRef"]["name"]]


def test_S1_a_store_that_is_away_for_a_moment_costs_another_attempt_only(team: Objects, kubelet: Kubelet) -> None:
    def first_time(given: StageInput, pod_uid: str) -> StageEnd | None:
        away = failing(Reason.STORAGE_UNAVAILABLE, "503 SlowDown", exit_code=30)
        return away(given, pod_uid) if given.attempt == 1 else succeed(given, pod_uid)

    kubelet.scripts["patient", Stage.TRAIN] = first_time
    start_run(team, "patient")
    status = team.wait_for_phase("patient", "Exporting", "Failed")
    assert (stage_of(status, Stage.TRAIN)["phase"], stage_of(status, Stage.TRAIN)["attempts"]) == ("Succeeded", 2)


def test_P6_the_pods_own_words_stand_in_the_status(team: Objects, kubelet: Kubelet) -> None:
    kubelet.waiting["unpulled"] = {"reason": "ImagePullBackOff", "message": "no such host registry.invalid"}
    start_run(team, "unpulled")

    def told() -> dict[str, Any] | None:
        status = team.status("unpulled")
        return status if status.get("reason") == "ImagePullFailed" else None

    status = wait_until(told, what="ImagePullFailed in the status")
    assert "no such host registry.invalid" in status["message"]
    assert not {"Failed", "Succeeded"} & {status["phase"]}
    del kubelet.waiting["unpulled"]
    team.wait_for_phase("unpulled", "Training")


def test_C3_suspension_deletes_the_job_and_costs_no_attempt(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["paused", Stage.TRAIN] = run_on
    start_run(team, "paused", runPolicy={"backoffLimit": 0})
    team.wait_for_phase("paused", "Training")
    training = wait_until(lambda: [name for name in jobs_of(team, "paused") if "-train-" in name], what="its Job")
    team.patch("trainingruns", "paused", {"spec": {"suspend": True}})
    team.wait_for_phase("paused", "Suspended")
    wait_until(lambda: training[0] not in jobs_of(team, "paused"), what="the Job to be deleted")
    del kubelet.scripts["paused", Stage.TRAIN]
    team.patch("trainingruns", "paused", {"spec": {"suspend": False}})
    status = team.wait_for_phase("paused", "Exporting", "Failed")
    train = stage_of(status, Stage.TRAIN)
    assert (train["phase"], train["attempts"], train["failures"]) == ("Succeeded", 2, 0)


def test_cancelling_ends_the_run_and_its_job(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["unwanted", Stage.TRAIN] = run_on
    start_run(team, "unwanted")
    team.wait_for_phase("unwanted", "Training")
    team.patch("trainingruns", "unwanted", {"spec": {"cancel": True}})
    status = team.wait_for_phase("unwanted", "Cancelled")
    assert status["reason"] == "Cancelled"
    wait_until(lambda: not [name for name in jobs_of(team, "unwanted") if "-train-" in name], what="its Job to go")


def test_a_failed_run_goes_on_when_it_is_retried(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["again", Stage.EXPORT] = failing(Reason.QUALITY_GATE_FAILED, "AP50 0.4 < 0.5", exit_code=45)
    start_run(team, "again")
    assert team.wait_for_phase("again", "Failed", "Succeeded")["reason"] == "QualityGateFailed"
    del kubelet.scripts["again", Stage.EXPORT]
    team.patch("trainingruns", "again", {"metadata": {"annotations": {"atoll.dev/retry": "1"}}})
    status = team.wait_for_phase("again", "Succeeded")
    assert (stage_of(status, Stage.TRAIN)["attempts"], stage_of(status, Stage.EXPORT)["attempts"]) == (1, 2)


def test_a_run_waits_for_its_store_and_goes_on_when_it_is_there(team: Objects) -> None:
    start_run(team, "early", objectStoreRef={"name": "late"})

    def told() -> bool:
        return team.status("early").get("reason") == "ObjectStoreNotFound"

    wait_until(told, what="ObjectStoreNotFound in the status")
    assert not jobs_of(team, "early")
    store = team.get("objectstores", "default")
    assert store is not None
    manifest = {key: store[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "late"}}
    team.create("objectstores", manifest)
    team.wait_for_phase("early", "Converting")


def test_a_job_of_somebody_else_with_the_name_is_left_alone(team: Objects) -> None:
    run = start_run(team, "taken", suspend=True)
    team.wait_for_phase("taken", "Suspended")
    name = job_name("taken", run["metadata"]["uid"], Stage.CONVERT, 1)
    foreign = team.create_job(name)
    team.patch("trainingruns", "taken", {"spec": {"suspend": False}})
    status = team.wait_for_phase("taken", "Failed", "Succeeded")
    assert status["reason"] == "JobNameConflict"
    assert team.jobs()[name]["metadata"]["uid"] == foreign["metadata"]["uid"]


def test_C11_runs_that_publish_one_model_side_by_side_take_a_version_each(team: Objects) -> None:
    names = [f"version-{number}" for number in range(3)]
    for name in names:
        start_run(team, name, publish={"model": "counted"})
    ends = [team.wait_for_phase(name, "Succeeded", "Failed") for name in names]
    assert {end["summary"]["release"] for end in ends} == {"counted-v1", "counted-v2", "counted-v3"}


def test_a_bucket_that_knows_higher_versions_is_followed(team: Objects, kubelet: Kubelet) -> None:
    def taken(given: StageInput, pod_uid: str) -> StageEnd | None:
        assert given.publish is not None
        if given.publish.version < 8:
            words = f"v{given.publish.version} is another run's"
            summary = {"nextVersion": 8}
            return failing(Reason.VERSION_CONFLICT, words, exit_code=52, summary=summary)(given, pod_uid)
        return succeed(given, pod_uid)

    kubelet.scripts["rebuilt", Stage.PUBLISH] = taken
    start_run(team, "rebuilt")
    status = team.wait_for_phase("rebuilt", "Succeeded", "Failed")
    assert status["summary"]["release"] == "rebuilt-v8"


def test_C9_one_slot_is_given_to_one_run_after_the_other(team: Objects, kubelet: Kubelet) -> None:
    profile = f"{team.namespace}-single"
    team.create_profile(profile_manifest(profile, maxConcurrentRuns=1))
    kubelet.scripts["first", Stage.TRAIN] = run_on
    start_run(team, "first", profileRef={"name": profile})
    team.wait_for_phase("first", "Training")
    for name in ("second", "third"):
        # They end in their first stage: the order is what counts here.
        kubelet.scripts[name, Stage.CONVERT] = failing(Reason.DATASET_MALFORMED, "no archive", exit_code=13)
        start_run(team, name, profileRef={"name": profile})
    assert team.wait_for_phase("second", "Queued")["queue"]["ahead"] == 1
    assert team.wait_for_phase("third", "Queued")["queue"]["ahead"] == 2
    kubelet.scripts["first", Stage.TRAIN] = failing(Reason.TRAINING_DIVERGED, "loss is NaN", exit_code=40)
    ends = [team.wait_for_phase(name, "Succeeded", "Failed") for name in ("first", "second", "third")]
    assert [end["reason"] for end in ends] == ["TrainingDiverged", "DatasetMalformed", "DatasetMalformed"]
    spans = [(end["stages"][0]["startTime"], end["completionTime"]) for end in ends]
    assert spans[0][1] <= spans[1][0] <= spans[1][1] <= spans[2][0]


def test_C4_deleting_a_run_leaves_its_releases_and_nothing_else(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["gone", Stage.TRAIN] = run_on
    start_run(team, "gone")
    team.wait_for_phase("gone", "Training")
    team.delete("trainingruns", "gone")
    wait_until(lambda: not jobs_of(team, "gone"), what="its Jobs to go")
    assert team.get("trainingruns", "gone") is None
    wait_until(lambda: not [name for name in team.pods() if name.startswith("gone-")], what="its pods to go")


def test_times_to_live_remove_the_jobs_and_then_the_run(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["shortlived", Stage.CONVERT] = failing(Reason.DATASET_MALFORMED, "no archive", exit_code=13)
    start_run(team, "shortlived")
    team.wait_for_phase("shortlived", "Succeeded", "Failed")
    assert jobs_of(team, "shortlived")
    team.patch("trainingruns", "shortlived", {"spec": {"runPolicy": {"jobTTLSecondsAfterFinished": 0}}})
    wait_until(lambda: not jobs_of(team, "shortlived"), what="the Jobs to go")
    assert team.status("shortlived")["phase"] == "Failed"
    team.patch("trainingruns", "shortlived", {"spec": {"runPolicy": {"ttlSecondsAfterFinished": 0}}})
    wait_until(lambda: team.get("trainingruns", "shortlived") is None, what="the run to go")


def test_the_operator_may_not_read_secrets(team: Objects, operator: OperatorProcess) -> None:
    for verb in ("get", "list", "watch"):
        assert not team.may(operator.account, verb, "secrets")
    assert team.may(operator.account, "create", "jobs", group="batch")
    assert not team.may(operator.account, "patch", "jobs", group="batch")


@pytest.mark.parametrize("published", [True, False])
def test_O37_a_run_cancelled_while_it_publishes_says_what_was_published(
    team: Objects, kubelet: Kubelet, published: bool
) -> None:
    name = "late" if published else "early-enough"
    nothing = failing(Reason.CANCELLED, "not published", exit_code=39)

    def publish(given: StageInput, pod_uid: str) -> StageEnd | None:
        assert given.publish is not None
        if not given.publish.adopt_only:
            return None
        return succeed(given, pod_uid) if published else nothing(given, pod_uid)

    kubelet.scripts[name, Stage.PUBLISH] = publish
    start_run(team, name)
    team.wait_for_phase(name, "Publishing")
    # One Job compiles and publishes, and is named after its first stage.
    wait_until(lambda: [pod for pod in team.pods() if f"{name}-compile-1" in pod], what="the pod of publish")
    team.patch("trainingruns", name, {"spec": {"cancel": True}})
    status = team.wait_for_phase(name, "Succeeded", "Cancelled", "Failed")
    assert status["phase"] == ("Succeeded" if published else "Cancelled"), status["message"]
    assert stage_of(status, Stage.PUBLISH)["attempts"] == 2
    assert "intendedEnd" not in status
    release = team.get("modelreleases", f"{name}-v1")
    assert release is not None
    assert bool((release.get("status") or {}).get("published")) is published


def test_O33_while_its_job_is_held_a_runs_clock_stands_still(team: Objects, kubelet: Kubelet) -> None:
    kubelet.scripts["held", Stage.CONVERT] = run_on
    start_run(team, "held")
    wait_until(lambda: jobs_of(team, "held"), what="the first Job")
    (name,) = jobs_of(team, "held")
    # As Kueue does while its queue is full.
    jobs = kubernetes.client.BatchV1Api(team.api)
    jobs.patch_namespaced_job(name, team.namespace, {"spec": {"suspend": True}})
    wait_until(lambda: "heldSince" in team.status("held"), what="heldSince in the status")
    before = team.status("held")
    held = parse_time(before["heldSince"])
    wait_until(lambda: datetime.now(UTC) - held > timedelta(seconds=6), what="some time of waiting")
    assert team.status("held")["heldSince"] == before["heldSince"]
    del kubelet.scripts["held", Stage.CONVERT]
    jobs.patch_namespaced_job(name, team.namespace, {"spec": {"suspend": False}})
    wait_until(lambda: "heldSince" not in team.status("held"), what="the end of the hold")
    moved = parse_time(team.status("held")["activeSince"]) - parse_time(before["activeSince"])
    assert moved >= timedelta(seconds=4)
    team.wait_for_phase("held", "Succeeded")
