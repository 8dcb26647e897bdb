"""The simplest loop as sides of the control plane's benchmark, with different kinds of Jobs."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kubernetes.client

from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_operator.api.decode import object_store, training_profile, training_run
from atoll_operator.jobs.manifest import build_job
from atoll_operator.jobs.stage_input import Work
from atoll_operator.lifecycle.model import StageAttempt
from cluster.objects import Objects, profile_manifest, run_manifest, store_manifest
from cluster.processes import ProcessGroup
from support.bare_chains import LENGTH, SMALLEST, STEP_LABEL, job_manifest
from support.load_sides import Side

Body = dict[str, Any]
TESTS = Path(__file__).resolve().parents[1]
# The admin of the control plane that the loop is.
CHAINS = "chains"


class BareChains(Side):
    """The simplest loop."""

    title = "bare chains of Jobs"
    user = CHAINS
    done = ("/apis/batch/v1/namespaces/{namespace}/jobs", "Status", "Complete")
    selector = f"{STEP_LABEL}={LENGTH}"
    ends = "jobs/status"

    def template(self) -> Body:
        """The Job of each step."""
        return SMALLEST

    def start(self, stack: ExitStack) -> None:
        self._batch = kubernetes.client.BatchV1Api(self.api)
        self._group = ProcessGroup("chains")
        stack.callback(self._group.close, kill=True)
        self._template = self.template()
        template = self._group.folder / "template.json"
        template.write_text(json.dumps(self._template), encoding="utf-8")
        environment = {"KUBECONFIG": str(self.plane.kubeconfig_of(CHAINS)), "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-P", "-m", "support.bare_chains", self.namespace, str(template)]
        self._group.start(CHAINS, command, environment=environment)

    @property
    def pid(self) -> int:
        return self._group.pid(CHAINS)

    def check(self) -> None:
        self._group.check(CHAINS)

    def submit(self, name: str) -> None:
        manifest = job_manifest(name, 1, self._template)
        self._batch.create_namespaced_job(self.namespace, manifest, _request_timeout=30)


class ShapedChains(BareChains):
    """The same loop with Jobs like Atoll's: what any controller would need that runs such pods."""

    title = "the same loop, Atoll's Jobs"

    def template(self) -> Body:
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
        job = build_job(work, StageAttempt(Stage.TRAIN, 1, {}, active_deadline_seconds=3600, accelerator="cpu"))
        return {"metadata": {"labels": job["metadata"]["labels"]}, "spec": job["spec"]}
