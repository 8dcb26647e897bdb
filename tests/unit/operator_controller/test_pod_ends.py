"""What the watch of pods that succeeded told: it saves a list, and is never taken for more than it says."""

from __future__ import annotations

import json
from typing import Any

from atoll_operator.controller.cache import MAX_KEPT, PodEnds

Body = dict[str, Any]


def pod(name: str, *, job: str = "job-uid", kind: str = "Job", controller: bool = True) -> Body:
    ended = {"exitCode": 0, "reason": "Completed", "message": "{}", "finishedAt": "2027-01-09T12:01:00Z"}
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": "2027-01-09T12:00:00Z",
            "ownerReferences": [{"kind": kind, "name": "note-train-1-abc", "uid": job, "controller": controller}],
        },
        "spec": {"containers": [{"name": "stage"}]},
        "status": {"phase": "Succeeded", "containerStatuses": [{"name": "stage", "state": {"terminated": ended}}]},
    }


def line(kind: str, body: Body) -> bytes:
    """As the API server writes it."""
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode()


def test_a_pod_that_has_just_succeeded_is_known_by_its_job() -> None:
    ends = PodEnds()
    ends.watched(None).tell(line("ADDED", pod("one")))
    (known,) = ends.of("job-uid")
    assert (known.name, known.job, known.exit_code, known.termination_message) == ("one", "note-train-1-abc", 0, "{}")
    assert ends.of("another") == ()
    ends.forget("job-uid")
    assert ends.of("job-uid") == ()


def test_later_changes_of_it_are_not_read() -> None:
    ends = PodEnds()
    for kind in ("MODIFIED", "DELETED"):
        ends.watched(None).tell(line(kind, pod("one")))
    assert ends.of("job-uid") == ()


def test_two_pods_of_one_job_are_for_a_live_look() -> None:
    ends = PodEnds()
    ends.keep(pod("one"))
    ends.keep(pod("two"))
    assert ends.of("job-uid") == ()


def test_a_pod_that_no_job_controls_is_nobodys() -> None:
    ends = PodEnds()
    ends.keep(pod("one", kind="ReplicaSet"))
    ends.keep(pod("two", controller=False))
    assert ends.of("job-uid") == ()


def test_the_oldest_gives_way() -> None:
    ends = PodEnds()
    for number in range(MAX_KEPT + 1):
        ends.keep(pod(f"pod-{number}", job=f"job-{number}"))
    assert ends.of("job-0") == ()
    assert ends.of("job-1")
    assert ends.of(f"job-{MAX_KEPT}")
