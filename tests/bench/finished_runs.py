"""What finished runs cost the operator when it starts and re-syncs: memory, calls and CPU.

    python tests/bench/finished_runs.py [--runs 10000] [--json]

The API server is a generator of pages: objects as the API server sends them, JSON and all, that nobody keeps. All of
the operator's program is loaded, and its own lists, cache and queue take the pages, twice: as at a start, and as at a
re-sync. One finished run in a hundred still has its Job. Exits with 1 if a bound is missed.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kubernetes.client

import atoll_operator.main
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_operator.api.crds import definitions
from atoll_operator.api.defaults import defaulted
from atoll_operator.controller.cache import Cache
from atoll_operator.controller.lists import RunLister
from atoll_operator.controller.queue import QueueManager
from atoll_operator.jobs.manifest import job_name
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.objects import JOBS, RUNS
from atoll_operator.kube.transport import Request
from cluster.objects import run_manifest
from cluster.usage import mebibytes, peak_mebibytes
from support.load_bounds import BoundCheck

STATUS = Path(__file__).resolve().parents[1] / "golden" / "frozen" / "statuses" / "succeeded.json"
EVERY = 100
NOW = datetime(2027, 1, 9, 19, tzinfo=UTC)


class FinishedRuns(Cluster):
    """Answers lists of runs and Jobs, page by page, and counts the calls."""

    def __init__(self, runs: int) -> None:
        super().__init__(kubernetes.client.ApiClient())
        self.calls = 0
        self._runs = runs
        run = defaulted(run_manifest("template"), definitions()["TrainingRun"].schema)
        self._run: dict[str, Any] = run | {"status": json.loads(STATUS.read_text(encoding="utf-8"))["status"]}

    def _answer(self, request: Request, *, last: int | None = None) -> tuple[int, bytes]:
        self.calls += 1
        assert (request.method, request.resource) in (("GET", RUNS), ("GET", JOBS))
        first, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        count, make = (
            (self._runs, self._make_run) if request.resource is RUNS else (self._runs // EVERY, self._make_job)
        )
        page = {"items": [make(number) for number in range(first, min(first + limit, count))]}
        token = {"continue": str(first + limit)} if first + limit < count else {}
        return 200, json.dumps(page | {"metadata": token}).encode()

    def _make_run(self, number: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": f"old-{number}",
            "uid": f"7b1e0000-0000-4000-8000-{number:012d}",
            "namespace": "team",
        }
        metadata |= {"resourceVersion": str(number + 1), "creationTimestamp": "2027-01-09T18:00:00Z", "generation": 1}
        return self._run | {"metadata": metadata}

    def _make_job(self, number: int) -> dict[str, Any]:
        run = self._make_run(number * EVERY)["metadata"]
        ref = RunRef("team", run["name"], run["uid"])
        labels = {"run": ref.name, "run-uid": ref.uid, "stage": "train", "attempt": "1"}
        owner = {"kind": "TrainingRun", "name": ref.name, "uid": ref.uid, "controller": True}
        metadata = {
            "name": job_name(ref.name, ref.uid, Stage.TRAIN, 1),
            "namespace": "team",
            "uid": f"job-{number}",
            "resourceVersion": str(number + 1),
            "creationTimestamp": "2027-01-09T18:00:00Z",
            "labels": {f"atoll.dev/{name}": value for name, value in labels.items()},
            "ownerReferences": [owner],
        }
        return {"metadata": metadata, "spec": {}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}


def measure(runs: int) -> dict[str, float]:
    server, cache, queue = FinishedRuns(runs), Cache(), QueueManager()
    lister = RunLister(server, cache, queue, lambda: NOW)
    figures = {"runs": float(runs), "memory before, MiB": mebibytes(os.getpid())}
    for what in ("start", "re-sync"):
        began, server.calls = time.process_time(), 0
        found = lister.list_all(None)
        assert found.keys == []
        assert len(found.due) == runs // EVERY
        figures |= {f"calls of a {what}": float(server.calls), f"CPU of a {what}, s": time.process_time() - began}
    return figures | {"memory after, MiB": mebibytes(os.getpid()), "peak, MiB": peak_mebibytes(os.getpid())}


def checks(figures: dict[str, float]) -> Iterator[BoundCheck]:
    runs = figures["runs"]
    yield BoundCheck(f"memory with {runs:.0f} finished runs, MiB", figures["peak, MiB"], 128, must=True)
    yield BoundCheck(
        "calls of a start, per 5,000 finished runs", figures["calls of a start"] * 5000 / runs, 200, must=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000, help="finished runs (default 10000)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.runs)
    print(
        json.dumps(figures) if options.json else "\n".join(f"{value:10.1f}  {name}" for name, value in figures.items())
    )
    kept = list(checks(figures))
    print("\n".join(str(check) for check in kept), file=sys.stderr)
    return 1 if any(check.must and not check.met for check in kept) else 0


if __name__ == "__main__":
    assert atoll_operator.main  # its imports are a part of the memory
    sys.exit(main())
