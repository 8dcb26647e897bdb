"""A kubeconfig for a server of the test's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def kubeconfig(cluster: Mapping[str, Any], *, token: str, namespace: str = "default", name: str = "test") -> str:
    """Whoever holds it is the user with this token; `cluster` has the server's address and its authority."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": dict(cluster)}],
        "users": [{"name": "holder", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "holder", "namespace": namespace}}],
    }
    return json.dumps(document, indent=1)
