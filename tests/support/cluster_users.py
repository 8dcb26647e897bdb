"""Users of a cluster, good and bad, who do one thing at a time: they submit, suspend, cancel, retry and delete runs,
delete Jobs and pods, publish models by hand, and create Jobs that bear another's labels."""

from __future__ import annotations

import random
from typing import Any

from atoll_operator.kube.objects import JOBS, RUNS
from atoll_operator.kube.transport import Body
from support.cluster_model import ENDED, STRANGER, STRANGERS_WORDS, ClusterModel, conditions_of
from support.fake_operator import add_run
from support.history_checks import HistoryChecks

MAX_RUNS = 5
MODELS = ("note", "cube")
WORKERS = (1, 1, 2)
# A namespace of somebody else, who has learned what the labels of a run's Jobs are.
OTHER_NAMESPACE = "evil"


class Users:
    """`job_ttl` is that of every run, in seconds. `kueue`: admins also take the place of a Job back."""

    def __init__(
        self, model: ClusterModel, checks: HistoryChecks, rng: random.Random, *, job_ttl: int, kueue: bool
    ) -> None:
        self._model = model
        self._server = model.server
        self._checks = checks
        self._rng = rng
        self._job_ttl = job_ttl
        self._kueue = kueue
        self._backoff = rng.choice([0, 1, 2, 2, 3])

    def act(self) -> None:
        runs = self._model.objects(RUNS.plural)
        chance = self._rng.random()
        if not runs or (chance < 0.22 and len(runs) < MAX_RUNS):
            self.submit()
        elif chance < 0.66:
            self._change(self._rng.choice(runs), chance)
        else:
            self._disturb(self._rng.choice(runs), chance)

    def submit(self) -> None:
        name = f"run{self._rng.randint(1, MAX_RUNS)}"
        if self._server.get(RUNS, "team", name) is not None:
            return
        policy: dict[str, Any] = {"backoffLimit": self._backoff, "jobTTLSecondsAfterFinished": self._job_ttl}
        training = {"initFrom": {"type": "random"}, "steps": 20, "batchSize": 4, "workers": self._rng.choice(WORKERS)}
        if self._rng.random() < 0.3:
            policy["ttlSecondsAfterFinished"] = 2 * self._job_ttl
        add_run(
            self._server,
            name,
            uid=f"uid-{self._server.version}",
            publish={"model": self._rng.choice(MODELS)},
            suspend=self._rng.random() < 0.1,
            compile=self._targets(),
            training=training,
            runPolicy=policy,
        )

    def _targets(self) -> list[Body]:
        """The Edge TPU alone, or with others, of which each has a Job of its own."""
        others = [[], [], ["rknn"], ["rknn", "qnn", "hailo"]]
        policies = ["BestEffort", "BestEffort", "Required", "Disabled"]
        chosen = [{"target": name, "policy": self._rng.choice(policies)} for name in self._rng.choice(others)]
        return [{"target": "edgetpu", "policy": "BestEffort"}, *chosen]

    def resume_all(self) -> None:
        for run in list(self._model.objects(RUNS.plural)):
            if run["spec"].get("suspend"):
                self._edit(run, {"spec": {"suspend": False}})

    def is_ours(self, job: Body) -> bool:
        return STRANGER not in (job["metadata"].get("annotations") or {})

    def _change(self, run: Body, chance: float) -> None:
        if chance < 0.40:
            self._edit(run, {"spec": {"suspend": not run["spec"].get("suspend")}})
        elif chance < 0.44:
            self._edit(run, {"spec": {"cancel": True}})
        elif chance < 0.60:
            value = f"r{self._server.version}" + self._rng.choice(["", "", ":train", ":convert"])
            self._edit(run, {"metadata": {"annotations": {"atoll.dev/retry": value}}})
        else:
            self._server.remove(RUNS, "team", run["metadata"]["name"])

    def _edit(self, run: Body, patch: Body) -> None:
        metadata = {"generation": run["metadata"]["generation"] + ("spec" in patch)} | patch.get("metadata", {})
        self._server.edit(RUNS, "team", run["metadata"]["name"], patch | {"metadata": metadata})

    def _disturb(self, run: Body, chance: float) -> None:
        jobs = [job for job in self._model.objects(JOBS.plural) if self.is_ours(job)]
        pods = self._model.objects("pods")
        if chance < 0.74 and jobs:
            name = self._rng.choice(jobs)["metadata"]["name"]
            self._checks.deleted.add(name)
            self._server.remove(JOBS, "team", name)
        elif chance < 0.82 and pods:
            self._model.remove_pod(self._rng.choice(pods))
        elif chance < 0.86:
            version = self._rng.randint(1, 3)
            self._model.bucket.manifests.setdefault((run["spec"]["publish"]["model"], version), "somebody")
        elif chance < 0.90 and self._kueue:
            unfinished = [job for job in jobs if not conditions_of(job)]
            if unfinished:
                self._model.suspend(self._rng.choice(unfinished))
        elif jobs:
            self._steal_labels(self._rng.choice(jobs))

    def _steal_labels(self, job: Body) -> None:
        """A Job of a stranger appears that looks like this one, or ends."""
        strangers = [body for body in self._model.objects(JOBS.plural) if not self.is_ours(body)]
        if strangers and self._rng.random() < 0.6:
            self._end(self._rng.choice(strangers))
            return
        metadata = {
            "name": job["metadata"]["name"],
            "labels": job["metadata"]["labels"],
            "annotations": {STRANGER: "yes"},
        }
        namespace = OTHER_NAMESPACE
        if self._rng.random() < 0.5:
            metadata["ownerReferences"] = job["metadata"]["ownerReferences"]
        else:
            namespace = self._rng.choice([OTHER_NAMESPACE, "team"])
            metadata["name"] += "-x" if namespace == "team" else ""
        if (JOBS.plural, namespace, metadata["name"]) not in self._server.objects:
            self._server.add(JOBS, {"metadata": metadata, "spec": {}}, namespace)

    def _end(self, stranger: Body) -> None:
        metadata = stranger["metadata"]
        if conditions_of(stranger) or self._rng.random() < 0.3:
            self._server.remove(JOBS, metadata["namespace"], metadata["name"])
            return
        kind = self._rng.choice(ENDED)
        condition = {"type": kind, "status": "True", "lastTransitionTime": metadata["creationTimestamp"]}
        if kind == "Failed":
            condition |= {"reason": "DeadlineExceeded", "message": STRANGERS_WORDS}
        self._server.edit(JOBS, metadata["namespace"], metadata["name"], {"status": {"conditions": [condition]}})
