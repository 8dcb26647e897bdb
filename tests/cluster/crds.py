"""CustomResourceDefinitions for tests on a real API server."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
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


def _established(extensions: Any, name: str) -> bool:
    crd = extensions.read_custom_resource_definition(name, _request_timeout=10)
    conditions = crd.status.conditions or [] if crd.status else []
    return any(condition.type == "Established" and condition.status == "True" for condition in conditions)
