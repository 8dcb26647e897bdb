"""The profile's snapshot is known by its content, and by nothing that others may write."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import pytest

from atoll_operator.controller.profile_snapshots import (
    PROFILE_LABEL,
    ProfileSnapshot,
    SnapshotSweep,
    read_snapshot,
)
from atoll_operator.kube.objects import PROFILES, REVISIONS
from support.fake_cluster import FakeCluster, FakeServer

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


def sweep(server: FakeServer, *, in_use: Collection[str] = (), kept: int = 0) -> SnapshotSweep:
    return SnapshotSweep(FakeCluster(server), own_namespace="atoll-system", in_use=lambda: in_use, kept=kept)


def with_snapshots(count: int) -> tuple[FakeServer, list[str]]:
    """A server with so many snapshots of a profile that has changed since, the oldest first."""
    server, names = FakeServer(), []
    for number in range(count):
        server.clock.advance(60)
        manifest = ProfileSnapshot("gpu", {**SNAPSHOT.spec, "maxConcurrentRuns": 10 + number}).manifest()
        names.append(server.add(REVISIONS, manifest, "atoll-system")["metadata"]["name"])
    server.add(PROFILES, {"metadata": {"name": "gpu"}, "spec": SNAPSHOT.spec})
    return server, names


def test_an_unused_snapshot_goes_in_the_second_round() -> None:
    server, (name,) = with_snapshots(1)
    rounds = sweep(server)
    assert [rounds(), rounds()] == [[], [name]]
    assert server.all(REVISIONS) == []


def test_a_snapshot_that_a_run_has_taken_meanwhile_stays() -> None:
    server, (name,) = with_snapshots(1)
    in_use: list[str] = []
    rounds = sweep(server, in_use=in_use)
    rounds()
    in_use.append(name)
    assert [rounds(), rounds()] == [[], []]


def test_the_newest_unused_snapshots_stay() -> None:
    server, names = with_snapshots(4)
    rounds = sweep(server, kept=3)
    rounds()
    assert rounds() == names[:1]


def test_a_profiles_present_snapshot_and_other_revisions_stay() -> None:
    server, _ = with_snapshots(0)
    server.add(REVISIONS, SNAPSHOT.manifest(), "atoll-system")
    foreign = {"metadata": {"name": "foreign", "labels": {PROFILE_LABEL: "gpu"}}, "data": {}}
    server.add(REVISIONS, foreign, "atoll-system")
    rounds = sweep(server)
    assert [rounds(), rounds()] == [[], []]
    assert len(server.all(REVISIONS)) == 2
