"""The profile's snapshot is known by its content, and by nothing that others may write."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from atoll_operator.controller.profile_snapshots import ProfileSnapshot, read_snapshot

SNAPSHOT = ProfileSnapshot("gpu", {"images": {"train": "registry.example/train@sha256:1"}, "maxConcurrentRuns": 1})


def test_a_snapshot_is_read_back_as_it_was() -> None:
    assert read_snapshot(SNAPSHOT.manifest()) == SNAPSHOT


def test_order_of_fields_does_not_matter_and_everything_else_does() -> None:
    turned = ProfileSnapshot("gpu", dict(reversed(list(SNAPSHOT.spec.items()))))
    assert turned.revision == SNAPSHOT.revision
    assert ProfileSnapshot("cpu", SNAPSHOT.spec).revision != SNAPSHOT.revision
    assert ProfileSnapshot("gpu", {**SNAPSHOT.spec, "maxConcurrentRuns": 2}).digest != SNAPSHOT.digest


@pytest.mark.parametrize(
    "change",
    [
        {"data": None},
        {"data": {"profile": "gpu"}},
        {"data": {"profile": "gpu", "spec": {"images": {"train": "evil"}, "maxConcurrentRuns": 1}}},
        {"data": {"profile": "other", "spec": SNAPSHOT.spec}},
    ],
)
def test_a_snapshot_whose_content_is_not_what_its_name_says_is_none(change: dict[str, Any]) -> None:
    manifest = copy.deepcopy(SNAPSHOT.manifest())
    assert read_snapshot(manifest | change) is None
