"""A random history of a cluster with the operator in it: `History(seed).run()`.

At every call of the operator other things may happen: events arrive, pods end, users act, the call fails before or
after its effect or takes effect much later, the process dies, or a second operator works meanwhile.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from atoll_operator.config import Settings
from atoll_operator.kube.errors import ClusterError, Forbidden, Unavailable
from atoll_operator.kube.objects import JOBS, PODS, RUNS
from atoll_operator.kube.transport import Body, Request
from cluster.objects import profile_manifest
from support.cluster_model import ClusterModel
from support.cluster_users import WORKERS, Users
from support.fake_cluster import FakeServer, text_of
from support.fake_operator import FakeOperator, prepared
from support.history_checks import HistoryChecks

STEPS = 100
RESYNC_SECONDS = 300.0
JOB_TTL_SECONDS = 600
WATCHED = (RUNS.plural, JOBS.plural, JOBS.plural, PODS.plural)
# Longer than any deadline of a run in these histories, so that each of them must have ended.
LONGEST_END_SECONDS = 4 * 3600.0


class Crash(BaseException):
    """The process dies here. No code of the product may catch this."""


@dataclass
class Instance:
    """One pod of the operator, in which one process follows the other."""

    server: FakeServer
    name: str
    around: Callable[[Instance, Request, str], None]
    process: FakeOperator | None = None
    next_resync: float = 0.0

    def start(self) -> None:
        """The lists before the first worker. A process whose list fails tries again later."""
        settings = Settings(own_namespace="atoll", identity=self.name, resync=RESYNC_SECONDS)
        process = FakeOperator(self.server, settings)
        process.around = lambda request, moment: self.around(self, request, moment)
        self.process, self.next_resync = process, self.server.clock() + RESYNC_SECONDS
        try:
            process.start()
        except ClusterError:
            self.crash()

    def crash(self) -> None:
        if self.process is not None:
            self.process.crash()
            self.process = None

    def deliver_one(self, plural: str) -> None:
        """The next event of this watch arrives."""
        process = self.process
        event = next((item for item in process.events if item[1] == plural), None) if process else None
        if process is not None and event is not None:
            process.events.remove(event)
            process.hand_out(*event)

    def resync_if_due(self) -> None:
        if self.process is None or self.server.clock() < self.next_resync:
            return
        try:
            self.process.resync()
            self.next_resync = self.server.clock() + RESYNC_SECONDS
        except ClusterError:
            self.next_resync = self.server.clock() + 5

    def miss_events(self, plural: str) -> None:
        """A watch begins anew, as its version is too old to continue from, and has everything listed."""
        if self.process is not None:
            self.process.events = deque(event for event in self.process.events if event[1] != plural)
            self.next_resync = self.server.clock()


class History:
    """`faulty`: calls, pods and processes fail; `alone`: there is one operator. Both follow from the seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.alone, self._faulty = seed % 5 != 0, seed % 4 != 0
        slots, kueue = self._rng.choice([1, 1, 2, 4]), self._rng.random() < 0.15
        # How often calls fail, as a multiple of the ordinary.
        self._roughness = self._rng.choice([1, 1, 6])
        compiled = {} if self._rng.random() < 0.5 else {"images": _images_without_compiler()}
        self.server = prepared(maxConcurrentRuns=slots, limits={"maxWorkers": max(WORKERS)}, **compiled)
        self.model = ClusterModel(self.server, self._rng, faulty=self._faulty, kueue=kueue)
        self.checks = HistoryChecks(self.model, slots=slots, alone=self.alone)
        self.users = Users(self.model, self.checks, self._rng, job_ttl=JOB_TTL_SECONDS, kueue=kueue)
        self.instances = [Instance(self.server, f"operator-{n}", self._around) for n in range(1 if self.alone else 2)]
        # Creations that the API server carries out later.
        self._late: deque[Request] = deque()
        self._nested = False
        self._quiet = False

    def run(self, steps: int = STEPS) -> None:
        self.users.submit()
        for _ in range(steps):
            self._guarded(self._step)
        self._settle()

    # Beside a call.

    def _around(self, instance: Instance, request: Request, moment: str) -> None:
        self.server.clock.advance(0.002)
        if self._quiet or self._nested:
            return
        self._nested = True
        try:
            while self._rng.random() < 0.25:
                self._happen_beside(instance)
            if not self.alone and self._rng.random() < 0.15:
                other = next(item for item in self.instances if item is not instance)
                for _ in range(self._rng.randint(1, 4)):
                    self._work(other)
        finally:
            self._nested = False
        if self._faulty:
            self._fail(instance, request, moment)

    def _happen_beside(self, instance: Instance) -> None:
        chance = self._rng.random()
        if chance < 0.55:
            instance.deliver_one(self._rng.choice(WATCHED))
        elif chance < 0.9:
            self.model.step()
        else:
            self.users.act()

    def _fail(self, instance: Instance, request: Request, moment: str) -> None:
        chance, call = self._rng.random() / self._roughness, text_of(request)
        if chance < 0.004:
            raise Crash(instance.name)
        if chance < 0.06 and moment == "before" and call.startswith("create jobs"):
            self._late.append(request)
            raise Unavailable(call, "no answer in time")
        if chance < 0.02:
            raise Unavailable(call, "no answer", status=self._rng.choice([0, 429, 500]))
        if chance < 0.021:
            raise Forbidden(call, "no right", status=403)

    def _carry_out_late(self) -> None:
        """The API server carries a creation out whose caller has given up."""
        request = self._late.popleft()
        body = copy.deepcopy(request.body or {})
        self.checks.late.add(body["metadata"]["name"])
        if (JOBS.plural, request.namespace, body["metadata"]["name"]) not in self.server.objects:
            self.server.add(JOBS, body, request.namespace)

    # A history.

    def _step(self) -> None:
        instance, chance = self._rng.choice(self.instances), self._rng.random()
        if instance.process is None:
            instance.start()
        elif chance < 0.30:
            self._work(instance)
        elif chance < 0.55:
            instance.deliver_one(self._rng.choice(WATCHED))
        elif chance < 0.75:
            self.model.step()
        elif chance < 0.84:
            self.users.act()
        elif chance < 0.97:
            self._advance(self._rng.choice([0.1, 0.5, 1, 3, 5, 31]))
        elif chance < 0.975:
            self._advance(self._rng.choice([130, 400, 2000]))
        elif self._faulty:
            self._disturb(instance)
        instance.resync_if_due()

    def _disturb(self, instance: Instance) -> None:
        chance = self._rng.random()
        if chance < 0.4:
            instance.crash()
        elif chance < 0.7:
            instance.miss_events(self._rng.choice([RUNS.plural, JOBS.plural]))
        elif self._late:
            self._carry_out_late()
        elif instance.process is not None and instance.process.events:
            # Missed without a word: the re-sync has to make up for it.
            instance.process.events.popleft()

    def _work(self, instance: Instance) -> bool:
        """One reconcile. An error that is not the API server's is one of the product, and ends the test."""
        process = instance.process
        key = process.queue.get_due() if process else None
        if process is None or key is None:
            return False
        # A reconcile takes time, so that a wait of next to nothing ends.
        self.server.clock.advance(0.001)
        process.work_on(key)
        return True

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Crash as crash:
            next(item for item in self.instances if item.name == crash.args[0]).crash()

    def _advance(self, seconds: float) -> None:
        """Time passes; for as long as a second and more, the operators keep up."""
        end = self.server.clock() + seconds
        while self.server.clock() < end:
            if seconds >= 1:
                for instance in self.instances:
                    self._keep_up(instance)
            self._pass_time_until(end)
            if seconds < 1:
                return

    def _keep_up(self, instance: Instance) -> bool:
        """Returns whether there was anything to do."""
        moved, process = False, instance.process
        while process is not None and process.events and process is instance.process:
            process.hand_out(*process.events.popleft())
            moved = True
        for _ in range(500):
            if not self._work(instance):
                return moved
            moved = True
        raise AssertionError("500 reconciles at one moment")

    def _pass_time_until(self, end: float) -> None:
        """To the next moment at which an operator has something to do."""
        now = self.server.clock()
        waits = [end - now]
        for instance in self.instances:
            if instance.process is not None:
                due = instance.process.seconds_to_next()
                waits += [instance.next_resync - now, *([due] if due is not None else [])]
        self.server.clock.advance(max(0.001, min(waits)))
        for instance in self.instances:
            instance.resync_if_due()

    # Its end.

    def _settle(self) -> None:
        """From now on nothing fails: every run ends, no Job outlives its run, and none is left after its TTL."""
        self._quiet = True
        self.users.resume_all()
        self._pass_until(self._all_ended, LONGEST_END_SECONDS, "a run never ended")
        self._pass(RESYNC_SECONDS + 1)
        self._check_outlived()
        self._pass(JOB_TTL_SECONDS + 2 * RESYNC_SECONDS)
        left = [job["metadata"]["name"] for job in self.model.objects(JOBS.plural) if self.users.is_ours(job)]
        assert not left, f"{left} are left after their TTL"
        while self._late:
            self._carry_out_late()
        for instance in self.instances:
            self._keep_up(instance)
        self._check_outlived()

    def _check_outlived(self) -> None:
        for run in self.model.objects(RUNS.plural):
            if _is_over(run):
                alive = [job["metadata"]["name"] for job in self.checks.unfinished_jobs(run["metadata"]["uid"])]
                assert not alive, f"{alive} outlive their run"

    def _all_ended(self) -> bool:
        return all(_is_over(run) for run in self.model.objects(RUNS.plural))

    def _pass(self, seconds: float) -> None:
        end = self.server.clock() + seconds
        self._pass_until(lambda: self.server.clock() >= end, seconds, "time does not pass")

    def _pass_until(self, reached: Callable[[], bool], longest: float, otherwise: str) -> None:
        end = self.server.clock() + longest
        while not reached():
            assert self.server.clock() < end, f"{otherwise}: {self._summary()}"
            for instance in self.instances:
                if instance.process is None:
                    instance.start()
            moved = [self._keep_up(instance) for instance in self.instances]
            if not any([*moved, self.model.step(healthy=True)]):
                self._pass_time_until(end)

    def _summary(self) -> list[tuple[str, object, object]]:
        statuses = [(run["metadata"]["name"], run.get("status") or {}) for run in self.model.objects(RUNS.plural)]
        return [(name, status.get("phase"), status.get("message")) for name, status in statuses]


def _is_over(run: Body) -> bool:
    return (run.get("status") or {}).get("phase") in ("Succeeded", "Failed", "Cancelled")


def _images_without_compiler() -> dict[str, str]:
    images: dict[str, str] = profile_manifest("default")["spec"]["images"]
    return {stage: image for stage, image in images.items() if stage != "compile"}
