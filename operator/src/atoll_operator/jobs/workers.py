"""What several workers of a training need beside their Job: names for each other, and a closed port. Pure."""

import hashlib
from typing import Any

from atoll_operator.jobs.stage_input import Work

Manifest = dict[str, Any]

# The workers' gRPC port. TensorFlow carries out what anybody sends to it.
WORKER_PORT = 2222


def service_name(run_uid: str) -> str:
    """The headless Service of a run's workers, and its NetworkPolicy. A Service's name begins with a letter, which that
    of a run need not."""
    return f"workers-{hashlib.sha256(run_uid.encode()).hexdigest()[:16]}"


def worker_addresses(work: Work, job: str) -> tuple[str, ...]:
    """The addresses of the workers of the Job named `job`, by index. Kubernetes names the pods of an Indexed Job so."""
    domain = f"{service_name(work.run.uid)}.{work.run.namespace}.svc"
    return tuple(f"{job}-{index}.{domain}:{WORKER_PORT}" for index in range(work.spec.training.workers))


def workers_on_job(work: Work, labels: Manifest) -> tuple[Manifest, Manifest]:
    """What the Job's spec and its pods' spec have in addition. The Job has succeeded with the first worker, and is over
    when a pod fails: those that are left would wait for it."""
    disrupted = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    count = work.spec.training.workers
    on_job = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
        "podFailurePolicy": {"rules": [disrupted]},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    return on_job, {"subdomain": service_name(work.run.uid), "topologySpreadConstraints": [spread]}


def worker_service(metadata: Manifest, selector: Manifest) -> Manifest:
    """The headless Service that gives the workers their names, also before they are ready: they wait for each other."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector,
            "ports": [{"name": "grpc", "port": WORKER_PORT, "protocol": "TCP"}],
        },
    }


def worker_policy(metadata: Manifest, selector: Manifest) -> Manifest:
    """The NetworkPolicy that lets only workers of the same run reach a worker. NCCL chooses ports of its own."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {
            "podSelector": {"matchLabels": selector},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": selector}}]}],
        },
    }
