"""TrainingRuns, profiles and stores for tests on a real API server, and what is read back."""

from __future__ import annotations

import json
from typing import Any

import kubernetes.client
from kubernetes.client.exceptions import ApiException

from support.polling import wait_until

Body = dict[str, Any]
GROUP, VERSION = "atoll.dev", "v1alpha1"
TIMEOUT = 10
DIGEST = "sha256:" + "0" * 64


def run_manifest(name: str, **spec: Any) -> Body:
    """A small TrainingRun; keyword arguments replace parts of its spec."""
    base: Body = {
        "profileRef": {"name": "default"},
        "objectStoreRef": {"name": "default"},
        "datasets": [{"key": "datasets/team/note.tar"}],
        "training": {"initFrom": {"type": "random"}, "steps": 20, "batchSize": 4},
        "compile": [{"target": "edgetpu", "policy": "BestEffort"}],
        "publish": {"model": "note"},
    }
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TrainingRun", "metadata": {"name": name}, "spec": base | spec}


def store_manifest(name: str = "default") -> Body:
    spec = {
        "bucket": "frc",
        "prefix": "atoll/",
        "endpoint": "http://minio.invalid:9000",
        "credentials": {"secretRef": {"name": "s3"}},
    }
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "ObjectStore", "metadata": {"name": name}, "spec": spec}


def profile_manifest(name: str, **spec: Any) -> Body:
    """A profile whose images no registry has: nothing pulls them where there is no node."""
    image = f"registry.invalid/atoll/stage@{DIGEST}"
    images = {"convert": image, "train": image, "compile": image, "publish": image}
    base: Body = {"images": images, "maxConcurrentRuns": 4}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainingProfile",
        "metadata": {"name": name},
        "spec": base | spec,
    }


class Objects:
    """Atoll's objects and Jobs of one namespace, as plain JSON."""

    def __init__(self, api: kubernetes.client.ApiClient, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self._custom = kubernetes.client.CustomObjectsApi(api)

    def create(self, plural: str, manifest: Body) -> Body:
        created: Body = self._custom.create_namespaced_custom_object(
            GROUP, VERSION, self.namespace, plural, manifest, _request_timeout=TIMEOUT
        )
        return created

    def create_profile(self, manifest: Body) -> Body:
        created: Body = self._custom.create_cluster_custom_object(
            GROUP, VERSION, "trainingprofiles", manifest, _request_timeout=TIMEOUT
        )
        return created

    def patch_profile(self, name: str, body: Body) -> None:
        self._custom.patch_cluster_custom_object(
            GROUP,
            VERSION,
            "trainingprofiles",
            name,
            body,
            _request_timeout=TIMEOUT,
            _content_type="application/merge-patch+json",
        )

    def create_job(self, name: str, *, owner: Body | None = None) -> Body:
        """A Job that the operator did not make; `owner` is the run that owns it all the same."""
        container = {"name": "other", "image": "registry.invalid/other"}
        spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
        metadata: Body = {"name": name}
        if owner is not None:
            head = {key: owner[key] for key in ("apiVersion", "kind")}
            metadata["ownerReferences"] = [head | {key: owner["metadata"][key] for key in ("name", "uid")}]
        answer = kubernetes.client.BatchV1Api(self.api).create_namespaced_job(
            self.namespace, {"metadata": metadata, "spec": spec}, _preload_content=False, _request_timeout=TIMEOUT
        )
        created: Body = json.loads(answer.data)
        return created

    def may(self, account: str, verb: str, resource: str, *, group: str = "") -> bool:
        """Whether the ServiceAccount of this namespace may do that here."""
        attributes = {"namespace": self.namespace, "verb": verb, "resource": resource, "group": group}
        user = f"system:serviceaccount:{self.namespace}:{account}"
        review = {"spec": {"user": user, "resourceAttributes": attributes}}
        answer = kubernetes.client.AuthorizationV1Api(self.api).create_subject_access_review(
            review, _request_timeout=TIMEOUT
        )
        return bool(answer.status.allowed)

    def patch(self, plural: str, name: str, body: Body) -> Body:
        """A merge patch by a user."""
        patched: Body = self._custom.patch_namespaced_custom_object(
            GROUP,
            VERSION,
            self.namespace,
            plural,
            name,
            body,
            _request_timeout=TIMEOUT,
            _content_type="application/merge-patch+json",
        )
        return patched

    def patch_status(self, plural: str, name: str, body: Body) -> None:
        self._custom.patch_namespaced_custom_object_status(
            GROUP,
            VERSION,
            self.namespace,
            plural,
            name,
            body,
            _request_timeout=TIMEOUT,
            _content_type="application/merge-patch+json",
        )

    def delete(self, plural: str, name: str) -> None:
        self._custom.delete_namespaced_custom_object(
            GROUP, VERSION, self.namespace, plural, name, _request_timeout=TIMEOUT
        )

    def get(self, plural: str, name: str) -> Body | None:
        try:
            found: Body = self._custom.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, plural, name, _request_timeout=TIMEOUT
            )
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def list_all(self, plural: str) -> list[Body]:
        found: list[Body] = self._custom.list_namespaced_custom_object(
            GROUP, VERSION, self.namespace, plural, _request_timeout=TIMEOUT
        )["items"]
        return found

    def jobs(self) -> dict[str, Body]:
        """The Jobs of the namespace by name."""
        answer = kubernetes.client.BatchV1Api(self.api).list_namespaced_job(
            self.namespace, _preload_content=False, _request_timeout=TIMEOUT
        )
        return {job["metadata"]["name"]: job for job in json.loads(answer.data)["items"]}

    def pods(self) -> dict[str, Body]:
        answer = kubernetes.client.CoreV1Api(self.api).list_namespaced_pod(
            self.namespace, _preload_content=False, _request_timeout=TIMEOUT
        )
        return {pod["metadata"]["name"]: pod for pod in json.loads(answer.data)["items"]}

    def lease_holder(self) -> str:
        """Who holds the operator's Lease; empty if nobody does."""
        lease = kubernetes.client.CoordinationV1Api(self.api).read_namespaced_lease(
            "atoll-operator", self.namespace, _request_timeout=TIMEOUT
        )
        return str(lease.spec.holder_identity or "")

    def events(self, run: str) -> list[Body]:
        """Events on the run."""
        answer = kubernetes.client.CoreV1Api(self.api).list_namespaced_event(
            self.namespace,
            field_selector=f"involvedObject.kind=TrainingRun,involvedObject.name={run}",
            _preload_content=False,
            _request_timeout=TIMEOUT,
        )
        found: list[Body] = json.loads(answer.data)["items"]
        return found

    def status(self, run: str) -> Body:
        found = self.get("trainingruns", run)
        return (found or {}).get("status") or {}

    def wait_for_phase(self, run: str, *phases: str, timeout_seconds: float = 120) -> Body:
        """The run's status as soon as it has one of these phases."""

        def reached() -> Body | None:
            status = self.status(run)
            return status if status.get("phase") in phases else None

        try:
            return wait_until(reached, what=f"{run} to be {' or '.join(phases)}", timeout_seconds=timeout_seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its status is {json.dumps(self.status(run), indent=1)}") from None
