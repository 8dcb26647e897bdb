"""Atoll's CRDs are taken by the API server, and every kind is served."""

from __future__ import annotations

import kubernetes.client
import pytest

pytestmark = pytest.mark.api


def test_every_kind_is_established_and_served(api: kubernetes.client.ApiClient, crds: list[str]) -> None:
    served = kubernetes.client.CustomObjectsApi(api).get_api_resources("atoll.dev", "v1alpha1", _request_timeout=10)
    names = {f"{item.name}.atoll.dev" for item in served.resources if "/" not in item.name}
    assert names == set(crds)
    assert len(names) == 6
