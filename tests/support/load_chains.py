"""The simplest loop as sides of the control plane's benchmark, with different kinds of Jobs."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kubernetes.client

from atoll_contract.keys import RunRef
from atoll_contract.stage import PublishSpec, Stage, StageInput
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_operator.api.decode import object_store, training_profile, training_run
from atoll_operator.jobs.manifest import build_job
from atoll_operator.jobs.stage_input import Work
from atoll_operator.lifecycle.model import AttemptNumber, StageAttempt
from cluster.kubelet import result_of
from cluster.objects import Objects, profile_manifest, run_manifest, store_manifest
from cluster.processes import ProcessGroup
from support.bare_chains import LENGTH, SMALLEST, STEP_LABEL, job_manifest
from support.load_sides import Side

Body = dict[str, Any]
TESTS = Path(__file__).resolve().parents[1]
# The admin of the control plane that the loop is.
CHAINS = "chains"
# The stages of a run's Jobs, as `decide` puts them together.
JOBS = ((Stage.CONVERT,), (Stage.TRAIN, Stage.EXPORT), (Stage.COMPILE, Stage.PUBLISH))


class BareChains(Side):
    """The simplest loop."""

    title = "bare chains of five Jobs"
    user = CHAINS
    done = ("/apis/batch/v1/namespaces/{namespace}/jobs", "Status", "Complete")
    selector = f"{STEP_LABEL}={LENGTH}"
    ends = "jobs/status"

    def jobs(self) -> list[Body]:
        """The Jobs of each chain."""
        return [SMALLEST] * LENGTH

    def start(self, stack: ExitStack) -> None:
        self._batch = kubernetes.client.BatchV1Api(self.api)
        self._group = ProcessGroup("chains")
        stack.callback(self._group.close, kill=True)
        self._jobs = self.jobs()
        path = self._group.folder / "jobs.json"
        path.write_text(json.dumps(self._jobs), encoding="utf-8")
        environment = {"KUBECONFIG": str(self.plane.kubeconfig_of(CHAINS)), "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-P", "-m", "support.bare_chains", self.namespace, str(path)]
        self._group.start(CHAINS, command, environment=environment)

    @property
    def pid(self) -> int:
        return self._group.pid(CHAINS)

    def check(self) -> None:
        self._group.check(CHAINS)

    def submit(self, name: str) -> None:
        self._batch.create_namespaced_job(self.namespace, job_manifest(name, 1, self._jobs), _request_timeout=30)


class ShapedChains(BareChains):
    """The same loop with the three Jobs of a run: what any controller would need that runs such pods."""

    title = "the same loop, Atoll's three Jobs"
    stages = len(JOBS)
    selector = f"{STEP_LABEL}={len(JOBS)}"

    def jobs(self) -> list[Body]:
        objects = Objects(self.api, self.namespace)
        # With the API server's defaults.
        store = objects.create("objectstores", store_manifest())
        profile = objects.create_profile(profile_manifest(self.namespace))
        run = objects.create("trainingruns", run_manifest("template", profileRef={"name": self.namespace}))
        objects.delete("trainingruns", "template")
        work = Work(
            RunRef(self.namespace, "template", run["metadata"]["uid"]),
            training_run(run),
            training_profile(profile),
            {"default": object_store(store)},
        )
        jobs = [build_job(work, _attempt(work.run, stages)) for stages in JOBS]
        return [{"metadata": {"labels": job["metadata"]["labels"]}, "spec": job["spec"]} for job in jobs]


def _attempt(run: RunRef, stages: tuple[Stage, ...]) -> StageAttempt:
    """The first attempt of these stages, with what the stages before them would have left."""
    order = list(Stage)
    return StageAttempt(
        stages[0],
        1,
        {stage: result_of(_given(run, stage), run.uid).outputs for stage in order[: order.index(stages[0])]},
        active_deadline_seconds=3600,
        accelerator="cpu",
        version=1 if Stage.PUBLISH in stages else None,
        following=tuple(AttemptNumber(stage, 1) for stage in stages[1:]),
    )


def _given(run: RunRef, stage: Stage) -> StageInput:
    publish = PublishSpec("note", "stable", 1) if stage is Stage.PUBLISH else None
    return StageInput(stage, 1, run, StoreSpec(StoreType.DIRECTORY, path="none"), publish=publish)
