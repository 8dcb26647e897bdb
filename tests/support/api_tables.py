"""Requests tables from the API server as `kubectl get` does."""

from __future__ import annotations

import json
from collections import Counter

import kubernetes.client

_ACCEPT = "application/json;as=Table;v=v1;g=meta.k8s.io"


def column(api: kubernetes.client.ApiClient, collection: str, title: str, *, selector: str = "") -> Counter[str]:
    """How often each value stands in this column of the collection (a path)."""
    query = [("includeObject", "None"), *([("labelSelector", selector)] if selector else [])]
    request = api.param_serialize(
        "GET", collection, query_params=query, header_params={"Accept": _ACCEPT}, auth_settings=["BearerToken"]
    )
    answer = api.call_api(*request, _request_timeout=(10, 60))
    data = answer.read()
    assert answer.status == 200, f"GET {collection}: {answer.status} {data[:300]!r}"
    table = json.loads(data)
    place = [item["name"].lower() for item in table["columnDefinitions"]].index(title.lower())
    return Counter(str(row["cells"][place]) for row in table.get("rows") or [])
