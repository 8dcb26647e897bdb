"""The sides of the control plane's benchmark: each a process that turns what is submitted into chains of pods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import ClassVar, Self

import kubernetes.client
from kubernetes.client.exceptions import ApiException

from atoll_operator.config import Settings
from cluster.controlplane import ControlPlane
from cluster.objects import GROUP, VERSION, Objects, profile_manifest, run_manifest, store_manifest
from cluster.operator_process import OperatorProcess
from cluster.processes import free_port
from cluster.training_operator import TRAINING_OPERATOR, TrainingOperator, tfjob
from support.api_tables import column
from support.bare_chains import LENGTH
from support.polling import wait_until

SUBMITTERS = 4
IMAGE = "registry.invalid/atoll/stage@sha256:" + "0" * 64


class Side(ABC):
    """One way to run chains, in a namespace of its own; its process lives as long as the `with` block."""

    title: str
    # Pods one after the other in each chain.
    stages: ClassVar[int] = LENGTH
    # The collection and the printed column that tell which chains are done, and the word for it.
    done: ClassVar[tuple[str, str, str]]
    # What the last write to tells that all chains are done.
    ends: ClassVar[str]
    selector: ClassVar[str] = ""

    def __init__(self, plane: ControlPlane, api: kubernetes.client.ApiClient, namespace: str) -> None:
        self.plane, self.api, self.namespace = plane, api, namespace
        self._stack = ExitStack()
        kubernetes.client.CoreV1Api(api).create_namespace({"metadata": {"name": namespace}}, _request_timeout=10)

    def __enter__(self) -> Self:
        with self._stack:
            self.start(self._stack)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    @abstractmethod
    def user(self) -> str:
        """Its name in the audit log."""

    @property
    @abstractmethod
    def pid(self) -> int: ...

    @abstractmethod
    def start(self, stack: ExitStack) -> None:
        """Starts the process and whatever it needs; `stack` ends them."""

    @abstractmethod
    def check(self) -> None:
        """Raises ProcessError if the process has ended."""

    @abstractmethod
    def submit(self, name: str) -> None:
        """Asks for one chain."""

    def submit_all(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(SUBMITTERS) as pool:
            for _ in pool.map(self.submit, names):
                self.check()

    def states(self) -> Counter[str]:
        """How many chains are in which state, in the words of `kubectl get`."""
        collection, title, _ = self.done
        return column(self.api, collection.format(namespace=self.namespace), title, selector=self.selector)

    def problems(self) -> list[str]:
        """Where a chain that is done did not go as it should."""
        return []


class Atoll(Side):
    """The operator with the settings that it has in a cluster, serving all namespaces."""

    title = "Atoll, TrainingRuns of five stages"
    done = (f"/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/trainingruns", "Phase", "Succeeded")
    ends = "trainingruns/status"

    def __init__(
        self, plane: ControlPlane, api: kubernetes.client.ApiClient, namespace: str, *, slots: int, title: str = ""
    ) -> None:
        """`slots`: runs at work at once; the rest is queued."""
        super().__init__(plane, api, namespace)
        self.title = title or self.title
        self._objects = Objects(api, namespace)
        self._objects.create("objectstores", store_manifest())
        images = dict.fromkeys(("convert", "train", "compile", "publish"), IMAGE)
        self._objects.create_profile(profile_manifest(namespace, images=images, maxConcurrentRuns=slots))

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{OperatorProcess.account}"

    @property
    def pid(self) -> int:
        return self._operator.pid

    def start(self, stack: ExitStack) -> None:
        settings = {
            **as_in_a_cluster(),
            "ATOLL_NAMESPACES": "",
            "ATOLL_METRICS_PORT": str(free_port()),
            "ATOLL_LIVENESS": f"http://127.0.0.1:{free_port()}/healthz",
        }
        self._operator = OperatorProcess(self.plane, self.api, self.namespace, settings=settings, clusterwide=True)
        stack.enter_context(self._operator)
        wait_until(self._leads, what="the operator to lead", timeout_seconds=60)

    def check(self) -> None:
        self._operator.check()

    def submit(self, name: str) -> None:
        """A run with a model of its own, as runs of different teams have."""
        manifest = run_manifest(name, profileRef={"name": self.namespace}, publish={"model": name})
        self._objects.create("trainingruns", manifest)

    def problems(self) -> list[str]:
        runs = self._objects.list_all("trainingruns")
        again = [
            f"{run['metadata']['name']}: {item['attempts']} attempts of {item['name']}"
            for run in runs
            for item in run["status"]["stages"]
            if item["attempts"] != 1
        ]
        collection = self.done[0].format(namespace=self.namespace).replace("trainingruns", "modelreleases")
        releases = column(self.api, collection, "Name").total()
        unpublished = [f"{releases} releases of {len(runs)} runs"] if releases != len(runs) else []
        return [*again, *unpublished, *self._operator.problems()]

    def _leads(self) -> bool:
        self.check()
        try:
            return bool(self._objects.lease_holder())
        except ApiException as error:
            if error.status == 404:
                return False
            raise


class Kubeflow(Side):
    """TFJobs of one worker by the training-operator: one pod each, no chain."""

    title = "training-operator 1.8.1, TFJobs of one worker"
    stages = 1
    user = TRAINING_OPERATOR
    done = ("/apis/kubeflow.org/v1/namespaces/{namespace}/tfjobs", "State", "Succeeded")
    ends = "tfjobs/status"

    def start(self, stack: ExitStack) -> None:
        self._custom = kubernetes.client.CustomObjectsApi(self.api)
        self._operator = stack.enter_context(TrainingOperator(self.plane, self.api))

    @property
    def pid(self) -> int:
        return self._operator.pid

    def check(self) -> None:
        self._operator.check()

    def submit(self, name: str) -> None:
        self._custom.create_namespaced_custom_object(
            "kubeflow.org", "v1", self.namespace, "tfjobs", tfjob(name), _request_timeout=30
        )


def as_in_a_cluster() -> dict[str, str]:
    """The operator's own intervals, instead of the short ones of the tests."""
    own = Settings()
    seconds = {
        "LEASE_DURATION": own.lease.duration,
        "LEASE_RENEW_DEADLINE": own.lease.renew_deadline,
        "LEASE_RETRY": own.lease.retry,
        "RESYNC": own.resync,
        "PODS_AFTER": own.poll.first,
        "PODS_STARTING": own.poll.starting,
        "PODS_RUNNING": own.poll.running,
    }
    return {f"ATOLL_{name}_SECONDS": str(value) for name, value in seconds.items()}
