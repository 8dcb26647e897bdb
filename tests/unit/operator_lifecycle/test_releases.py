"""ModelReleases as objects: which is a run's, and which number is the highest."""

from __future__ import annotations

from typing import Any

from atoll_contract.release import ManifestRef
from atoll_operator.lifecycle.inputs import highest_version, own_release, published_status, release_manifest
from atoll_operator.lifecycle.model import ReleaseView
from atoll_operator.lifecycle.plan import ReleaseReport, Reservation
from support.run_simulation import SHA, START

RUN: dict[str, Any] = {
    "metadata": {"namespace": "team", "name": "note", "uid": "run-uid"},
    "spec": {"objectStoreRef": {"name": "default"}},
}


def release(version: int, *, run: str = "run-uid", model: str = "note") -> dict[str, Any]:
    made = release_manifest(RUN, Reservation(f"{model}-v{version}", model, version, "stable", f"sha256:{SHA}"))
    made["spec"]["runRef"]["uid"] = run
    return made


def test_a_release_names_its_run_and_is_not_owned_by_it() -> None:
    made = release(3)
    assert made["spec"]["runRef"] == {"name": "note", "uid": "run-uid"}
    assert "ownerReferences" not in made["metadata"]


def test_the_highest_version_counts_whoever_made_it() -> None:
    assert highest_version([release(2), release(10, run="other"), release(9)], model="note") == 10
    assert highest_version([], model="note") == 0


def test_a_release_that_only_bears_the_models_label_does_not_count() -> None:
    forged = release(99, model="other")
    forged["metadata"]["labels"]["atoll.dev/model"] = "note"
    assert highest_version([forged, release(1)], model="note") == 1


def test_a_runs_own_release_is_its_highest() -> None:
    releases = [release(1), release(4, run="other"), release(3)]
    assert own_release(releases, model="note", run_uid="run-uid") == ReleaseView("note-v3", 3, False)
    assert own_release(releases, model="note", run_uid="nobody") is None


def test_a_release_is_published_once_its_status_says_so() -> None:
    report = ReleaseReport("note-v3", ManifestRef("models/team/note/v3/manifest.json", SHA, 2048), "0.88", "98%")
    done = release(3) | {"status": published_status(report, now=START)}
    assert own_release([done], model="note", run_uid="run-uid") == ReleaseView("note-v3", 3, True)
    assert done["status"]["manifest"] == {"key": report.manifest.key, "sha256": SHA, "size": 2048}
