"""Measures one side of the control plane's benchmark, and makes the table of all sides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cluster.audit import AuditLog
from cluster.usage import cpu_seconds, mebibytes, peak_mebibytes
from support.load_sides import Side
from support.machine_speed import benchmark_seconds
from support.percentiles import percentile
from support.stage_gaps import Gaps, gaps

POLL_SECONDS = 1.0
# A table of a thousand objects is work for the API server: asking for it may take this part of the time.
POLL_SHARE = 0.02
NOTIFY_SECONDS = 10.0
# Written for people and for other replicas; counted apart.
APART = frozenset({"events", "leases"})


@dataclass(frozen=True)
class Measurement:
    """Seconds, mebibytes, and writes to the API server for one run (of `runs`). `all_cpu` is that of the side, the
    control plane, the scheduler and KWOK: both cores are busy all the time, and unlike the wall time it does not count
    what else runs on the machine. `speed` is `benchmark_seconds` before and after: the higher, the slower was the
    machine."""

    title: str
    runs: int
    stages: int
    seconds: float
    peak: float
    rest: float
    cpu: float
    server_cpu: float
    all_cpu: float
    writes: float
    writes_apart: float
    gaps: Gaps
    speed: tuple[float, float]

    @property
    def stages_per_second(self) -> float:
        return self.runs * self.stages / self.seconds


class CpuSeconds:
    """What the processes of a side have used since `begin`. `server` is the API server's, `others` those of the rest of
    the control plane and of its node."""

    def __init__(self, server: int, others: Iterable[int]) -> None:
        self.server = server
        self._pids = (server, *others)
        self._before: dict[int, float] = {}

    def begin(self, side: int) -> None:
        self._before = {pid: cpu_seconds(pid) for pid in (*self._pids, side)}

    def used(self) -> dict[int, float]:
        return {pid: cpu_seconds(pid) - before for pid, before in self._before.items()}


def measure(
    side: Side, log: AuditLog, cpu: CpuSeconds, *, runs: int, deadline_seconds: float, notify: Callable[[str], None]
) -> Measurement:
    """Lets the side run this many chains, and measures their cost. Raises TimeoutError at the deadline."""
    log.skip()
    fast = benchmark_seconds()
    cpu.begin(side.pid)
    begin, began = time.monotonic(), time.time()
    side.submit_all([f"load-{number:04d}" for number in range(runs)])
    notify(f"{side.title}: {runs} submitted in {time.monotonic() - begin:.1f} s")
    _wait(side, runs, begin, deadline_seconds=deadline_seconds, notify=notify)
    used = cpu.used()
    problems = side.problems()
    assert not problems, f"{side.title}: {problems[:20]}"
    writes = list(log.new())
    # The poll that saw it came later.
    last = max(write.time for write in writes if (write.namespace, write.resource) == (side.namespace, side.ends))
    own = [write for write in writes if write.user == side.user]
    apart = sum(1 for write in own if write.resource in APART)
    return Measurement(
        title=side.title,
        runs=runs,
        stages=side.stages,
        seconds=last - began,
        peak=peak_mebibytes(side.pid),
        rest=mebibytes(side.pid),
        cpu=used[side.pid],
        server_cpu=used[cpu.server],
        all_cpu=sum(used.values()),
        writes=(len(own) - apart) / runs,
        writes_apart=apart / runs,
        gaps=gaps(writes, namespace=side.namespace),
        speed=(fast, benchmark_seconds()),
    )


def _wait(side: Side, runs: int, begin: float, *, deadline_seconds: float, notify: Callable[[str], None]) -> None:
    notified_at = begin
    while True:
        asked = time.monotonic()
        states, now = side.states(), time.monotonic()
        if states[side.done[2]] >= runs:
            return
        side.check()
        words = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        if now - begin > deadline_seconds:
            raise TimeoutError(f"{side.title}: not done after {deadline_seconds:g} s: {words}")
        if now - notified_at >= NOTIFY_SECONDS:
            notified_at = now
            notify(f"{side.title}: {now - begin:.0f} s: {words}")
        time.sleep(max(POLL_SECONDS, (now - asked) / POLL_SHARE))


def table(measurements: Sequence[Measurement]) -> str:
    """The sides as columns of a Markdown table."""
    rows: list[tuple[str, Callable[[Measurement], str]]] = [
        ("chains × pods one after the other", lambda side: f"{side.runs} × {side.stages}"),
        ("wall time, s", lambda side: f"{side.seconds:.0f}"),
        ("stages/s", lambda side: f"{side.stages_per_second:.1f}"),
        ("memory: peak / at the end, MiB", lambda side: f"{side.peak:.0f} / {side.rest:.0f}"),
        ("CPU, s", lambda side: f"{side.cpu:.1f}"),
        ("CPU of the API server meanwhile, s", lambda side: f"{side.server_cpu:.0f}"),
        ("CPU of all processes meanwhile, s", lambda side: f"{side.all_cpu:.0f}"),
        ("writes per chain", lambda side: f"{side.writes:.1f}"),
        ("Events and Lease, per chain", lambda side: f"{side.writes_apart:.1f}"),
        ("Job complete → next Job, p50 / p99, s", lambda side: _two(side.gaps.since_job)),
        ("pod ended → next Job, p50 / p99, s", lambda side: _two(side.gaps.since_pod)),
        ("the machine: fixed work before / after, s", lambda side: f"{side.speed[0]:.2f} / {side.speed[1]:.2f}"),
    ]
    lines = ["| | " + " | ".join(side.title for side in measurements) + " |", "|---" * (len(measurements) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(show(side) for side in measurements) + " |" for name, show in rows]
    return "\n".join(lines)


def _two(values: Sequence[float]) -> str:
    middle, high = percentile(values, 0.5), percentile(values, 0.99)
    return "none" if middle is None or high is None else f"{middle:.2f} / {high:.2f}"
