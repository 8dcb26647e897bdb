"""What must hold at every change in a cluster, whatever happened before: `HistoryChecks` watches a `FakeServer`."""

from __future__ import annotations

import json
from collections import Counter

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import DONE, TERMINAL
from atoll_operator.jobs.manifest import TARGET_LABEL
from atoll_operator.kube.objects import JOBS, NETWORK_POLICIES, RELEASES, RUNS, SERVICES, controller_of
from atoll_operator.kube.transport import Body
from atoll_operator.lifecycle.inputs import RETRY_ANNOTATION
from support.cluster_model import ENDED, STRANGER, STRANGERS_WORDS, ClusterModel, conditions_of
from support.worker_pods import OVER, worker_count

MAX_STATUS_BYTES = 16_384
# A reading of a running pod may be that old, and times are whole seconds.
READING_SECONDS = 40


class HistoryChecks:
    """Raises AssertionError from within the write that breaks a rule.

    `alone`: no second operator acts, so that also holds what one of two leaders cannot keep. `late`: names of Jobs
    whose creation the API server carries out after its caller gave up. `deleted`: names of Jobs that somebody else
    deleted.
    """

    def __init__(self, model: ClusterModel, *, slots: int, alone: bool) -> None:
        self.late: set[str] = set()
        self.deleted: set[str] = set()
        # Runs that said Cancelled or Failed while their version was out.
        self.unsaid = 0
        self._model = model
        self._slots = slots
        self._alone = alone
        self._statuses: dict[str, Body] = {}
        self._created: Counter[str] = Counter()
        model.server.listeners.append(self._on_event)

    def _on_event(self, kind: str, plural: str, body: Body) -> None:
        if plural == JOBS.plural and kind == "ADDED" and STRANGER not in (body["metadata"].get("annotations") or {}):
            self._check_creation(body)
        if plural == RUNS.plural and kind == "MODIFIED":
            before, after = self._statuses.get(body["metadata"]["uid"], {}), body.get("status") or {}
            if after and before != after:
                self._check_status(body, before, after)
                self._statuses[body["metadata"]["uid"]] = after

    def _check_creation(self, job: Body) -> None:
        name, uid = job["metadata"]["name"], controller_of(job, "TrainingRun")["uid"]
        if name in self.late:
            return
        self._created[name] += 1
        run = next((run for run in self._model.objects(RUNS.plural) if run["metadata"]["uid"] == uid), None)
        if run is None:
            return
        self._check_workers(job, uid)
        status = run.get("status") or {}
        phases = {item["name"]: item["phase"] for item in status.get("stages", [])}
        stages = [str(stage) for stage in Stage]
        before = stages[: stages.index(job["metadata"]["labels"]["atoll.dev/stage"])]
        if self._alone or not _retry(run):
            undone = [stage for stage in before if phases.get(stage) not in DONE]
            assert not undone, f"{name} was created before the success of {undone}"
        if not self._alone:
            return
        assert status.get("phase") not in TERMINAL, f"{name} was created for a run that is over"
        assert self._created[name] == 1 or name in self.deleted, f"{name} was created twice"
        others = [item["metadata"]["name"] for item in self.unfinished_jobs(uid)]
        others = [other for other in others if other != name and other not in self.late]
        if TARGET_LABEL in job["metadata"]["labels"]:
            # Compile targets are at work side by side, each in one Job.
            target = job["metadata"]["labels"][TARGET_LABEL]
            others = [other for other in others if self._target_of(other) in ("", target)]
        assert not others, f"{name} was created beside {others}"

    def _check_workers(self, job: Body, run_uid: str) -> None:
        """Before workers come, their port is closed and they have names; and those of an earlier attempt have ended."""
        if worker_count(job) == 1:
            return
        for plural in (SERVICES.plural, NETWORK_POLICIES.plural):
            owners = [controller_of(item, "TrainingRun").get("uid") for item in self._model.objects(plural)]
            assert run_uid in owners, f"{job['metadata']['name']} was created before its run had one of {plural}"
        if not self._alone:
            return
        for other in self._model.objects(JOBS.plural):
            # As for other Jobs: one that appears after its caller gave it up may be met too late.
            if other["metadata"]["name"] in self.late:
                continue
            if worker_count(other) > 1 and controller_of(other, "TrainingRun").get("uid") == run_uid and other != job:
                alive = [pod for pod in self._model.pods_of(other) if pod["status"]["phase"] not in OVER]
                assert not alive, f"{job['metadata']['name']} was created beside workers of {other['metadata']['name']}"

    def _target_of(self, name: str) -> str:
        """The compile target of a Job; empty where it has none of its own."""
        job = next(item for item in self._model.objects(JOBS.plural) if item["metadata"]["name"] == name)
        return str((job["metadata"].get("labels") or {}).get(TARGET_LABEL, ""))

    def unfinished_jobs(self, run_uid: str) -> list[Body]:
        jobs = self._model.objects(JOBS.plural)
        own = [job for job in jobs if controller_of(job, "TrainingRun").get("uid") == run_uid]
        return [
            job
            for job in own
            if not conditions_of(job) & set(ENDED) and STRANGER not in (job["metadata"].get("annotations") or {})
        ]

    def _check_status(self, run: Body, before: Body, after: Body) -> None:
        self._check_phase(run, before, after)
        self._check_stages(run, before, after)
        self._check_targets(run, after)
        self._check_release(run, after)
        text = json.dumps(after)
        assert len(text) <= MAX_STATUS_BYTES
        assert STRANGERS_WORDS not in text, f"{_name(run)} believes a stranger"
        assert after["reason"] != Reason.JOB_NAME_CONFLICT, f"{_name(run)}: {after['message']}"
        taken = sum(self._slots_of(run) for run in self._model.objects(RUNS.plural))
        assert taken <= self._slots or not self._alone, f"the runs at work take {taken} of {self._slots} slots"

    def _slots_of(self, run: Body) -> int:
        """The slots that a run holds: one for each GPU of each worker, and all where it wants more."""
        status, training = run.get("status") or {}, run["spec"]["training"]
        if not status.get("activeSince") or status["phase"] in TERMINAL:
            return 0
        return min(self._slots, int(training["workers"]) * int(training.get("gpus", 1)))

    def _check_phase(self, run: Body, before: Body, after: Body) -> None:
        if before.get("phase") not in TERMINAL or after["phase"] == before["phase"]:
            return
        is_retried = before["phase"] == "Failed" and _retry(run) != before.get("lastHandledRetry")
        assert is_retried, f"{_name(run)} went from {before['phase']} to {after['phase']}"

    def _check_stages(self, run: Body, before: Body, after: Body) -> None:
        uid = run["metadata"]["uid"]
        known = {item["name"]: item["phase"] for item in before.get("stages", [])}
        failures = {item["name"]: item.get("failures", 0) for item in before.get("stages", [])}
        for item in after["stages"]:
            stage = Stage(item["name"])
            # However many of its workers a Job loses, it is one attempt.
            assert item.get("failures", 0) <= item.get("attempts", 0), f"{_name(run)}: {stage} failed more than it ran"
            assert item.get("failures", 0) <= failures.get(stage, 0) + 1, f"{_name(run)}: {stage} failed twice at once"
            if item["phase"] == "Succeeded" and known.get(stage) != "Succeeded":
                assert self._was_done(uid, stage), f"{_name(run)}: {stage} never succeeded"
            if known.get(stage) == "Succeeded" and item["phase"] != "Succeeded":
                is_retried = after.get("lastHandledRetry") != before.get("lastHandledRetry")
                assert is_retried, f"{_name(run)}: the success of {stage} was lost"
            ran = self._model.running_seconds(uid, stage)
            late = READING_SECONDS * (int(run["spec"]["training"]["workers"]) if stage is Stage.TRAIN else 1)
            assert item.get("podSeconds", 0) <= ran + late, f"{_name(run)}: {stage} ran for {ran} s only"

    def _was_done(self, uid: str, stage: str) -> bool:
        return any(owner == uid and name.partition("-")[0] == stage for owner, name in self._model.bucket.results)

    def _check_targets(self, run: Body, after: Body) -> None:
        """No target has a success that is not its own, and publish was given the files of all that have one."""
        uid = run["metadata"]["uid"]
        for entry in after.get("compile", []):
            part = entry.get("stage") or {}
            if part.get("phase") == "Succeeded":
                done = (uid, f"compile-{entry['target']}") in self._model.bucket.results
                assert done, f"{_name(run)}: {entry['target']} never succeeded"
                assert not part.get("outputs")

    def _check_release(self, run: Body, status: Body) -> None:
        uid, model = run["metadata"]["uid"], run["spec"]["publish"]["model"]
        versions, release = self._model.bucket.versions_of(uid), status.get("release") or {}
        assert len(versions) <= 1, f"{_name(run)} published the versions {versions}"
        if release.get("manifest"):
            owner = self._model.bucket.manifests.get((model, release["version"]))
            assert owner == uid, f"{_name(run)} says that it published version {release['version']} of {owner}"
            body = self._model.server.get(RELEASES, "team", release["name"])
            assert body is not None
            assert body["spec"]["runRef"]["uid"] == uid
        assert release.get("manifest") or status["phase"] != "Succeeded", f"{_name(run)} succeeded without a version"
        assert not versions or "it was not published" not in status["message"], f"{_name(run)}: {status['message']}"
        if status["phase"] in ("Failed", "Cancelled") and versions and not release.get("manifest"):
            self.unsaid += 1


def _retry(run: Body) -> str | None:
    value = (run["metadata"].get("annotations") or {}).get(RETRY_ANNOTATION)
    return None if value is None else str(value)


def _name(run: Body) -> str:
    return str(run["metadata"]["name"])
