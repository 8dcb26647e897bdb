"""Clusters as targets of a draft, also for users without some rights; `tests/api` has a real API server."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll_cli.cluster_access import connect
from atoll_cli.draft.targets import RunTarget, cluster_target
from atoll_cli.options import ClusterOptions
from atoll_contract.errors import SpecError
from atoll_contract.images import Resize
from atoll_contract.train_spec import InitFrom
from atoll_operator.api.validation import check
from support.draft_inputs import ended_run
from support.scripted_api import ScriptedApi

RUNS = "/apis/atoll.dev/v1alpha1/namespaces/team/trainingruns"
PROFILE = "/apis/atoll.dev/v1alpha1/trainingprofiles/default"
RELEASE = "/apis/atoll.dev/v1alpha1/namespaces/team/modelreleases/note-v3"
NODES = "/api/v1/nodes"
IMAGES = {name: f"registry.example/{name}:1" for name in ("convert", "train", "publish", "trainGPU")}
FORBIDDEN = (403, {"reason": "Forbidden", "message": "no right"})


def profile(**images: str) -> dict[str, Any]:
    manifest = {
        "apiVersion": "atoll.dev/v1alpha1",
        "kind": "TrainingProfile",
        "metadata": {"name": "default"},
        "spec": {"allowTags": True, "images": images, "limits": {"maxSteps": 5000}},
    }
    checked = check(manifest)
    assert checked.problems == ()
    return dict(checked.value)


def nodes(amount: str) -> tuple[int, Any]:
    return 200, {"items": [{"status": {"allocatable": {"nvidia.com/gpu": amount}}}, {"status": {}}]}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedApi]:
    with ScriptedApi() as served:
        monkeypatch.setenv("KUBECONFIG", str(served.write_kubeconfig(tmp_path / "kubeconfig")))
        served.answers[RUNS] = lambda _: (200, {"items": []})
        served.answers[PROFILE] = lambda _: (200, profile(**IMAGES))
        served.answers[NODES] = lambda _: nodes("2")
        yield served


def read_target(release: str | None = None) -> RunTarget:
    access = connect(ClusterOptions(kubeconfig=os.environ["KUBECONFIG"]))
    return cluster_target(access.cluster, access.namespace, release=release)


def test_a_gpu_counts_where_profile_and_node_offer_it(api: ScriptedApi) -> None:
    assert read_target().gpu
    assert read_target().description == "TrainingProfile default, which offers nvidia.com/gpu"
    assert read_target().max_steps == 5000
    api.answers[NODES] = lambda _: nodes("0")
    assert not read_target().gpu
    api.answers[NODES] = lambda _: nodes("1")
    api.answers[PROFILE] = lambda _: (200, profile(**{key: IMAGES[key] for key in ("convert", "train", "publish")}))
    assert not read_target().gpu


def test_the_profile_decides_for_a_user_who_may_not_list_nodes(api: ScriptedApi) -> None:
    api.answers[NODES] = lambda _: FORBIDDEN
    assert read_target().gpu


def test_a_profile_that_cannot_be_read_is_reported(api: ScriptedApi) -> None:
    api.answers[PROFILE] = lambda _: FORBIDDEN
    assert not read_target().gpu
    assert "you may not read" in read_target().description
    del api.answers[PROFILE]
    assert "does not exist yet" in read_target().description


def test_weights_that_the_last_run_missed_are_told_of(api: ScriptedApi) -> None:
    missed = ended_run("a")
    missed["spec"]["training"]["initFrom"] = {"type": "imagenet"}
    missed["status"]["reason"] = "WeightsNotFound"
    missed["status"]["stages"][0]["phase"] = "Failed"
    assert read_target().initial_weights.type is InitFrom.IMAGENET
    api.answers[RUNS] = lambda _: (200, {"items": [missed]})
    assert read_target().initial_weights.type is InitFrom.IMAGENET
    assert read_target().weights_note.startswith("the last run missed them: ")
    found = ended_run("b")
    found["spec"]["training"]["initFrom"] = {"type": "imagenet"}
    found["metadata"]["creationTimestamp"] = "2027-01-10T00:00:00Z"
    api.answers[RUNS] = lambda _: (200, {"items": [missed, found]})
    assert read_target().initial_weights.type is InitFrom.IMAGENET


def test_weights_that_the_train_image_holds_are_told_of(api: ScriptedApi) -> None:
    held = profile(**IMAGES)
    held["metadata"] |= {"labels": {"atoll.dev/imagenet-weights": "0.5"}}
    api.answers[PROFILE] = lambda _: (200, held)
    target = read_target()
    assert (target.initial_weights.width, target.weights_note) == (0.5, "the train image has the weights of width 0.5")


def test_a_release_determines_architecture_width_and_model(api: ScriptedApi) -> None:
    with pytest.raises(SpecError, match="there is no ModelRelease note-v3"):
        read_target("note-v3")
    made_by = ended_run("notes", width="0.35")
    release = {"spec": {"runRef": {"name": "notes", "uid": "uid-notes"}}}
    api.answers[RELEASE] = lambda _: (200, release)
    with pytest.raises(SpecError, match="the run that made note-v3 is gone"):
        read_target("note-v3")
    api.answers[RUNS] = lambda _: (200, {"items": [made_by]})
    target = read_target("note-v3")
    assert (target.model, target.initial_weights.release, target.initial_weights.width) == ("note", "note-v3", 0.35)
    assert target.taken == {"notes"}
    assert target.initial_weights.resize is Resize.SQUASH
    made_by["spec"]["model"]["preprocessing"] = {"resize": "letterbox"}
    assert read_target("note-v3").initial_weights.resize is Resize.LETTERBOX
