"""The figures of the control plane's benchmark: out of an audit log, by nearest rank, against their bounds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.stage import Stage
from cluster.audit import AuditLog, Write
from cluster.kwok import stages
from cluster.usage import cpu_seconds, mebibytes, peak_mebibytes
from support.load_bounds import check_bounds
from support.load_measurement import Measurement, table
from support.percentiles import percentile
from support.stage_gaps import Gaps, gaps, place


def event(**changes: Any) -> dict[str, Any]:
    """A line of an audit log, as far as it is read."""
    about = {"resource": "jobs", "namespace": "bare", "name": "load-0001-2"}
    base = {
        "verb": "create",
        "user": {"username": "chains"},
        "objectRef": about,
        "responseStatus": {"code": 201},
        "stageTimestamp": "2027-01-09T18:00:01.500000Z",
    }
    return base | changes


def write(resource: str, name: str, time: float, *, verb: str = "patch", code: int = 200) -> Write:
    return Write("somebody", verb, resource, "bare", name, code, time)


def measurement(**changes: Any) -> Measurement:
    base: dict[str, Any] = {
        "title": "Atoll",
        "runs": 1000,
        "stages": 5,
        "seconds": 100.0,
        "peak": 100.0,
        "rest": 90.0,
        "cpu": 50.0,
        "server_cpu": 120.0,
        "all_cpu": 200.0,
        "writes": 9.0,
        "writes_apart": 7.0,
        "gaps": Gaps((0.1, 0.2), (0.3, 0.4)),
        "speed": (0.9, 1.25),
    }
    return Measurement(**(base | changes))


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.99) == 7
    assert percentile([], 0.5) is None


def test_each_line_of_the_log_is_told_once_and_an_unfinished_one_later(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    whole, late = json.dumps(event()), json.dumps(event(verb="patch"))
    path.write_text(f"{whole}\n{late[:40]}")
    log = AuditLog(path)
    [first] = log.new()
    assert (first.user, first.verb, first.resource, first.code) == ("chains", "create", "jobs", 201)
    assert list(log.new()) == []
    path.write_text(f"{whole}\n{late}\n")
    assert [item.verb for item in log.new()] == ["patch"]
    log.skip()
    assert list(log.new()) == []


def test_a_subresource_is_part_of_the_resource(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    about = {"resource": "jobs", "subresource": "status", "namespace": "bare", "name": "x"}
    path.write_text(json.dumps(event(objectRef=about)) + "\n")
    assert [item.resource for item in AuditLog(path).new()] == ["jobs/status"]


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ("load-0001-train-1-0123abcd", ("load-0001", 1)),
        ("load-0001-publish-1-0123abcd", ("load-0001", 4)),
        ("load-0001-3", ("load-0001", 2)),
        ("load-0001-train-2-0123abcd", None),
        ("load-0001", None),
    ],
)
def test_a_job_has_its_place_in_its_chain(job: str, expected: tuple[str, int] | None) -> None:
    assert place(job) == expected


def test_a_gap_begins_with_the_last_status_of_the_stage_before() -> None:
    writes = [
        write("jobs", "a-1", 0.0, verb="create", code=201),
        write("pods/status", "a-1-x7k2p", 1.0),
        write("pods/status", "a-1-x7k2p", 2.0),
        write("jobs/status", "a-1", 2.5),
        write("jobs/status", "a-1", 3.0),
        write("jobs", "a-2", 3.2, verb="create", code=409),
        write("jobs", "a-2", 3.5, verb="create", code=201),
        write("jobs", "b-1", 1.0, verb="create", code=201),
        Write("somebody", "create", "jobs", "elsewhere", "b-2", 201, 9.0),
    ]
    assert gaps(writes, namespace="bare") == Gaps(since_job=(0.5,), since_pod=(1.5,))


def test_bounds_of_the_full_load_count_for_the_full_load_only() -> None:
    heavy = measurement(seconds=500.0, peak=500.0)
    assert [item.what for item in check_bounds({"atoll": heavy}) if item.must and not item.met] == [
        "wall time of 1,000 runs, s",
        "memory of the operator, MiB",
    ]
    assert all(item.met for item in check_bounds({"atoll": measurement(runs=100, seconds=500.0)}))


def test_the_aims_are_measured_against_the_peer_and_at_fifty_in_flight() -> None:
    slow = measurement(gaps=Gaps((2.0,), ()))
    bare = measurement(title="bare chains", seconds=60.0, all_cpu=130.0)
    missed = [item.what for item in check_bounds({"bare": bare, "atoll": measurement(), "fifty": slow}) if not item.met]
    assert missed == [
        "CPU of the operator, s",
        "wall time, × bare chains",
        "CPU of all processes, × bare chains",
        "Job complete → next Job at 50 runs in flight, p99, s",
    ]


def test_the_table_has_a_column_for_each_side() -> None:
    header, _, *rows = table([measurement(), measurement(title="TFJobs", stages=1, gaps=Gaps((), ()))]).splitlines()
    assert header == "| | Atoll | TFJobs |"
    assert "| stages/s | 50.0 | 10.0 |" in rows
    assert "| Job complete → next Job, p50 / p99, s | 0.10 / 0.20 | none |" in rows
    assert "| the machine: fixed work before / after, s | 0.90 / 1.25 | 0.90 / 1.25 |" in rows


def test_a_process_is_measured() -> None:
    own = os.getpid()
    assert cpu_seconds(own) > 0
    assert 1 < mebibytes(own) <= peak_mebibytes(own) + 1


def test_the_pod_of_each_stage_ends_with_the_result_of_that_stage() -> None:
    ends = {item["metadata"]["name"]: item["spec"] for item in stages()}
    single, shared = {f"end-{stage}" for stage in Stage}, {"end-train-export", "end-compile-publish"}
    inits = {"init-train", "init-compile"}
    assert set(ends) == {"node", "run", "init", "run-after-init", "end", *single, *shared, *inits}
    for stage in Stage:
        spec = ends[f"end-{stage}"]
        assert spec["selector"]["matchLabels"] == {"atoll.dev/stage": str(stage)}
        assert f'"stage":"{stage}"' in spec["next"]["statusTemplate"]
    for name in ("end-publish", "end-compile-publish"):
        assert "{{ $input.publish.version }}" in ends[name]["next"]["statusTemplate"]
    assert "the-" not in "".join(spec["next"]["statusTemplate"] for spec in ends.values())


@pytest.mark.parametrize(("first", "last"), [("train", "export"), ("compile", "publish")])
def test_a_pod_of_two_stages_goes_through_its_init_container(first: str, last: str) -> None:
    by_name = {item["metadata"]["name"]: item["spec"] for item in stages()}
    init, end = by_name[f"init-{first}"], by_name[f"end-{first}-{last}"]
    assert init["selector"]["matchLabels"] == end["selector"]["matchLabels"] == {"atoll.dev/stage": first}
    assert "phase: Pending\ninitContainerStatuses:" in init["next"]["statusTemplate"]
    assert f'"stage":"{first}"' in init["next"]["statusTemplate"]
    assert f'"stage":"{last}"' in end["next"]["statusTemplate"]
    # The end of the init container stays as it was reported.
    assert "initContainerStatuses" not in end["next"]["statusTemplate"]
    assert init["delay"] == end["delay"]
