"""Checks whether the claims of Atoll's volumes can be bound."""

from __future__ import annotations

from collections.abc import Iterator

from atoll_cli.doctor.facts import Body, Facts
from atoll_cli.doctor.result import CheckResult, fail, ok, warn

_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_ADVICE = (
    "install a provisioner (k3s has local-path) and name its class in bundledStore.persistence.storageClass, or "
    "install with bundledStore.persistence.enabled=false for a store that forgets"
)


def check_storage(facts: Facts) -> Iterator[CheckResult]:
    """Storage classes, and claims that wait for one."""
    if facts.is_edge_only and not facts.claims.items:
        return
    if facts.storage_classes.error:
        yield warn("storage", facts.storage_classes.error, "have somebody run this who may list StorageClasses")
        return
    names = {item["metadata"]["name"] for item in facts.storage_classes}
    default = next((item["metadata"]["name"] for item in facts.storage_classes if _is_default(item)), "")
    waiting = [
        item for item in facts.claims if _is_atolls(item) and (item.get("status") or {}).get("phase") == "Pending"
    ]
    for claim in waiting:
        wanted = claim["spec"].get("storageClassName")
        name = f"claim {claim['metadata']['namespace']}/{claim['metadata']['name']}"
        if wanted and wanted not in names:
            yield fail("storage", f"{name} waits for StorageClass {wanted}, which does not exist", _ADVICE)
        elif not wanted and not default:
            yield fail("storage", f"{name} names no StorageClass, and the cluster has no default one", _ADVICE)
        else:
            advice = f"kubectl describe pvc -n {claim['metadata']['namespace']} {claim['metadata']['name']}"
            yield warn("storage", f"{name} is not bound yet", advice)
    if waiting:
        return
    if not names:
        yield warn("storage", "the cluster has no StorageClass: no volume is made for the bundled store", _ADVICE)
    elif not default:
        text = f"no StorageClass is the default one (there are {', '.join(sorted(names))})"
        yield warn("storage", text, "name one in bundledStore.persistence.storageClass")
    else:
        yield ok("storage", f"StorageClass {default} is the default one")


def _is_default(storage_class: Body) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(name) == "true" for name in _DEFAULT)


def _is_atolls(claim: Body) -> bool:
    return (claim["metadata"].get("labels") or {}).get("app.kubernetes.io/part-of") == "atoll" or bool(
        # A StatefulSet gives its claims the labels of its selector.
        str((claim["metadata"].get("labels") or {}).get("app.kubernetes.io/name", "")).startswith("atoll")
    )
