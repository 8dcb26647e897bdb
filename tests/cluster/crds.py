"""CustomResourceDefinitions for tests on a real API server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import kubernetes.client
import yaml

from support.polling import wait_until

CRDS = Path(__file__).parents[2] / "crds"


def install(api: kubernetes.client.ApiClient, files: Iterable[Path] | None = None) -> list[str]:
    """Creates the CRDs of these files, Atoll's own if none are given; their names, once all are established."""
    extensions = kubernetes.client.ApiextensionsV1Api(api)
    names = []
    for path in sorted(CRDS.glob("*.yaml") if files is None else files):
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        extensions.create_custom_resource_definition(manifest, _request_timeout=10)
        names.append(manifest["metadata"]["name"])
    for name in names:
        wait_until(partial(_established, extensions, name), what=f"{name} to be established")
    return names


def wait_gone(kubectl: Callable[..., str], names: Iterable[str], *, timeout_seconds: float = 120.0) -> None:
    """Waits for the end of CRDs that are being deleted.

    The API server can meet its own storage of a kind while that starts anew ("storage is (re)initializing"). It then
    leaves the kind for five minutes, or until somebody changes it, so this changes each that stands still.
    """
    awaited, turn = set(names), count()

    def gone() -> bool:
        items = json.loads(kubectl("get", "crd", "-o", "json"))["items"]
        left = [item for item in items if item["metadata"]["name"] in awaited]
        for item in left:
            conditions = item.get("status", {}).get("conditions", [])
            if any(condition.get("reason") == "InstanceDeletionFailed" for condition in conditions):
                with suppress(AssertionError):  # gone meanwhile
                    mark = f"tests.atoll.dev/looked-at={next(turn)}"
                    kubectl("annotate", "crd", item["metadata"]["name"], "--overwrite", mark)
        return not left

    wait_until(gone, what="the kinds to be gone", timeout_seconds=timeout_seconds, interval_seconds=0.5)


def _established(extensions: Any, name: str) -> bool:
    crd = extensions.read_custom_resource_definition(name, _request_timeout=10)
    conditions = crd.status.conditions or [] if crd.status else []
    return any(condition.type == "Established" and condition.status == "True" for condition in conditions)
