"""Checks of the API server: its version, Atoll's kinds, the operator's Deployment, and the clock."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from atoll_cli.doctor.facts import Body, Facts
from atoll_cli.doctor.result import CheckResult, fail, ok, warn
from atoll_contract import __version__
from atoll_operator.api import GROUP, VERSION
from atoll_operator.api.crds import definitions

# The charts' kubeVersion.
OLDEST_KUBERNETES = (1, 31)
WARN_SKEW_SECONDS = 60.0
# S3 refuses a request that is dated a quarter of an hour off; tokens and Leases fail before.
MAX_SKEW_SECONDS = 300.0


def check_api(facts: Facts) -> Iterator[CheckResult]:
    """The server's version and Atoll's kinds."""
    match = re.match(r"v(\d+)\.(\d+)", facts.version)
    if match and (int(match[1]), int(match[2])) < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        yield fail(
            "api", f"Kubernetes {facts.version} is older than {oldest}", f"update the cluster to {oldest} or newer"
        )
    else:
        yield ok("api", f"Kubernetes {facts.version} answers")
    if facts.is_edge_only:
        return
    if facts.crds.error:
        yield warn("kinds", facts.crds.error, "have somebody run this who may list CustomResourceDefinitions")
        return
    problems = [text for kind in definitions() if (text := _kind_problem(facts, kind))]
    for text in problems:
        yield fail("kinds", text, "helm upgrade the chart of this version, or kubectl apply --server-side -f crds/")
    if not problems:
        yield ok("kinds", f"the {len(definitions())} kinds of {GROUP} are there and current")


def _kind_problem(facts: Facts, kind: str) -> str:
    own = definitions()[kind]
    found = facts.crds.named(f"{own.plural}.{GROUP}")
    if found is None:
        return f"there is no kind {kind} ({own.plural}.{GROUP})"
    version = next((item for item in found["spec"]["versions"] if item["name"] == VERSION and item["served"]), None)
    if version is None:
        return f"kind {kind} has no version {VERSION}"
    schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    missing = sorted(_fields(own.schema) - _fields(schema))
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return f"kind {kind} is of an older version: it lacks {', '.join(missing[:3])}{more}"
    return ""


def _fields(schema: Mapping[str, Any], path: str = "") -> set[str]:
    """The paths of all fields of a structural schema."""
    found = set()
    for name, child in (schema.get("properties") or {}).items():
        found |= {f"{path}{name}"} | _fields(child, f"{path}{name}.")
    if isinstance(items := schema.get("items"), Mapping):
        found |= _fields(items, f"{path.removesuffix('.')}[].")
    return found


def check_operator(facts: Facts) -> Iterator[CheckResult]:
    """Whether the operator is installed, at work, and of this version."""
    install = "helm install atoll charts/atoll --namespace atoll --create-namespace"
    if facts.deployments.error:
        yield warn("operator", facts.deployments.error, "have somebody run this who may list Deployments")
        return
    operator = facts.operator
    if facts.is_edge_only:
        yield ok("operator", "there is none: this cluster runs devices alone")
        return
    if operator is None:
        yield fail("operator", "there is no Deployment of the operator where you may read", install)
        return
    metadata, status = operator["metadata"], operator.get("status") or {}
    name = f"Deployment {metadata['namespace']}/{metadata['name']}"
    if not status.get("availableReplicas"):
        advice = f"kubectl logs -n {metadata['namespace']} deployment/{metadata['name']}"
        yield fail("operator", f"{name} is not ready{_condition_of(operator)}", advice)
    else:
        yield ok("operator", f"{name} is ready")
    version = (metadata.get("labels") or {}).get("app.kubernetes.io/version", "")
    if version and version != __version__:
        text = f"the operator's chart is of version {version}, this program of {__version__}"
        yield warn("versions", text, "upgrade the older of the two")


def check_devices(facts: Facts) -> Iterator[CheckResult]:
    """Whether the edge's pods run."""
    for item in facts.devices:
        metadata, status = item["metadata"], item.get("status") or {}
        name = f"edge {metadata['namespace']}/{metadata['name']}"
        if status.get("availableReplicas") or status.get("numberAvailable"):
            yield ok("devices", f"{name} is ready")
        else:
            advice = f"kubectl describe pods -n {metadata['namespace']} -l app.kubernetes.io/component=edge"
            yield fail("devices", f"{name} is not ready{_condition_of(item)}", advice)


def _condition_of(workload: Body) -> str:
    conditions = (workload.get("status") or {}).get("conditions") or []
    return next((f": {item.get('message', '')}" for item in conditions if item["status"] == "False"), "")


def check_clock(facts: Facts) -> Iterator[CheckResult]:
    """This machine's clock against the API server's."""
    if facts.clock_skew is None:
        return
    if (problem := describe_skew(facts.clock_skew)) is None:
        yield ok("clock", "this machine and the API server agree on the time")
        return
    make = fail if abs(facts.clock_skew) >= MAX_SKEW_SECONDS else warn
    yield make("clock", f"this machine's clock is {problem} the API server's", CLOCK_ADVICE)


CLOCK_ADVICE = "set the clock of the machine that is wrong: timedatectl set-ntp true (S3 refuses requests 15 min off)"


def describe_skew(seconds: float) -> str | None:
    """`600 s ahead of`, or None for a clock that is right."""
    if abs(seconds) < WARN_SKEW_SECONDS:
        return None
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"
