"""The pods of a Job with several workers, as the Job controller and the workers themselves treat them.

One pod for each index; the Job has succeeded with index 0, and fails with the first pod that fails or goes. Workers
finish only where all of them are there at the same time, and end with PeerLost where another one is gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from atoll_contract.errors import Reason, exit_code
from atoll_contract.stage import StageInput
from atoll_contract.stage_result import StageResult
from atoll_operator.kube.objects import controller_of
from atoll_operator.kube.transport import Body
from cluster.kubelet import StageEnd

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
OVER = ("Succeeded", "Failed")
# What the Job controller says of a Job that may lose no pod.
NO_MORE = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
DISRUPTED = {"reason": "PodFailurePolicy", "message": "Pod team/x has condition DisruptionTarget matching FailJob rule"}


def worker_count(job: Body) -> int:
    """How many workers the Job has; 1 where it has a lone pod."""
    spec = job["spec"]
    return int(spec["completions"]) if spec.get("completionMode") == "Indexed" else 1


def index_of(pod: Body) -> int | None:
    text = pod["metadata"]["labels"].get(INDEX_LABEL)
    return None if text is None else int(text)


class WorkerPods:
    """What became of the workers' pods that are no longer there."""

    def __init__(self) -> None:
        # The phase in which the pod of an index went, by the UID of the Job and the index.
        self._gone: dict[tuple[str, int], str] = {}

    def note_removal(self, pod: Body) -> None:
        index = index_of(pod)
        if index is not None:
            self._gone[controller_of(pod, "Job").get("uid", ""), index] = pod["status"]["phase"]

    def forget(self, job: Body) -> None:
        """The Job is suspended: the pods that went with it are no loss."""
        for key in [key for key in self._gone if key[0] == job["metadata"]["uid"]]:
            del self._gone[key]

    def failure(self, job: Body, pods: Iterable[Body]) -> dict[str, str] | None:
        """Why the Job controller ends the Job; None where it does not."""
        failed = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
        if any(pod["status"].get("conditions") for pod in failed):
            return DISRUPTED
        return NO_MORE if failed or self._has_lost(job["metadata"]["uid"]) else None

    def missing(self, job: Body, pods: Iterable[Body]) -> list[int]:
        """The indices that have no pod and get one. That of index 0 is wanted until the Job has succeeded."""
        there, uid = {index_of(pod) for pod in pods}, job["metadata"]["uid"]
        wanted = (index for index in range(worker_count(job)) if index not in there)
        return [index for index in wanted if index == 0 or (uid, index) not in self._gone]

    def peer_is_lost(self, pod: Body, pods: Iterable[Body]) -> bool:
        """Whether another worker of the pod's Job failed, or went before its end."""
        others = (other["status"]["phase"] for other in pods if other is not pod)
        return "Failed" in others or self._has_lost(controller_of(pod, "Job").get("uid", ""))

    def _has_lost(self, job_uid: str) -> bool:
        return any(uid == job_uid and phase != "Succeeded" for (uid, _), phase in self._gone.items())


def lose_peer(given: StageInput, pod_uid: str) -> StageEnd:
    """The end of a worker whose peer is gone."""
    result = StageResult(given.stage, given.attempt, Reason.PEER_LOST, "another worker is gone")
    return StageEnd(exit_code(Reason.PEER_LOST), result.termination_message().decode(), "Error")


def follow(given: StageInput, pod_uid: str) -> StageEnd:
    """The end of a worker that leaves the result to the first one."""
    result = StageResult(given.stage, given.attempt, Reason.COMPLETED, "worker 0 has the result")
    return StageEnd(0, result.termination_message().decode())
