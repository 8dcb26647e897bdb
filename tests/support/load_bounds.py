"""The bounds that the operator must or should keep under the load of the control plane's benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from support.load_measurement import Measurement
from support.percentiles import percentile

# The bounds in seconds are for this many runs.
FULL_RUNS = 1000


@dataclass(frozen=True)
class BoundCheck:
    """A figure beside its bound. `must`: beyond it the benchmark fails."""

    what: str
    figure: float
    bound: float
    must: bool

    @property
    def met(self) -> bool:
        return self.figure <= self.bound

    def __str__(self) -> str:
        kind = "must" if self.must else "aim"
        return f"{kind:>5} {self.bound:>7.2f}  {'met   ' if self.met else 'MISSED'} {self.figure:>7.2f}  {self.what}"


def check_bounds(measurements: Mapping[str, Measurement]) -> list[BoundCheck]:
    """The checks that these sides allow; times and memory only where the number of runs is the full one."""
    found = []
    atoll, fifty = measurements.get("atoll"), measurements.get("fifty")
    if atoll is not None:
        for bound, must in ((10, True), (9.5, False)):
            found.append(BoundCheck("writes per run", atoll.writes, bound, must))
        if atoll.runs >= FULL_RUNS:
            found += _full(atoll)
        for name in ("bare", "shaped"):
            chains = measurements.get(name)
            if chains is not None and chains.runs == atoll.runs:
                found += _ratios(atoll, chains)
    late = percentile(fifty.gaps.since_job, 0.99) if fifty is not None else None
    if late is not None:
        found.append(BoundCheck("Job complete → next Job at 50 runs in flight, p99, s", late, 1.0, must=False))
    return found


def _ratios(atoll: Measurement, chains: Measurement) -> list[BoundCheck]:
    what = f"× {chains.title}"
    return [
        BoundCheck(f"wall time, {what}", atoll.seconds / chains.seconds, 1.5, must=False),
        BoundCheck(f"CPU of all processes, {what}", atoll.all_cpu / chains.all_cpu, 1.5, must=False),
    ]


def _full(atoll: Measurement) -> list[BoundCheck]:
    return [
        BoundCheck("wall time of 1,000 runs, s", atoll.seconds, 200, must=True),
        BoundCheck("memory of the operator, MiB", atoll.peak, 128, must=True),
        BoundCheck("CPU of the operator, s", atoll.cpu, 45, must=False),
    ]
