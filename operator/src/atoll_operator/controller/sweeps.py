"""Sweeps on a cluster: reads a sweep and its runs, lets `decide` make a plan, and applies it.

Nothing of a sweep is kept in this process but what the API server has refused, which it would refuse again.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

from atoll_contract.document import DecodeError, to_dict
from atoll_operator.api.status_codec import merge_patch
from atoll_operator.api.sweep import SweepPhase, read_sweep_status, training_sweep
from atoll_operator.config import Settings
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.workqueue import Key
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import AlreadyExists, ClusterError, Refused
from atoll_operator.kube.objects import EVENTS, RUNS, SWEEPS, event_manifest
from atoll_operator.kube.transport import Body
from atoll_operator.lifecycle.plan import RunEvent
from atoll_operator.sweeps.decide import SweepView, decide
from atoll_operator.sweeps.events import changes, plan_events, started
from atoll_operator.sweeps.space import SWEEP_LABEL
from atoll_operator.sweeps.trials import trials_of

logger = logging.getLogger(__name__)

# The status of a run takes its progress every 30 s, and no event tells of the operator's own writes.
REQUEUE_SECONDS = 5.0
MAX_PLANS = 10


class SweepReconciler:
    """Called with a sweep's key by one worker at a time. `now` is the cluster's time."""

    def __init__(
        self, cluster: Cluster, settings: Settings, *, metrics: OperatorMetrics, now: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._phases: dict[Key, SweepPhase] = {}
        for phase in SweepPhase:
            metrics.sweeps.labels(str(phase)).set_function(partial(self._count, phase))
        # By the sweep's UID.
        self._refused: dict[str, str] = {}

    def _count(self, phase: SweepPhase) -> int:
        """Called from the thread of a scrape."""
        return list(self._phases.values()).count(phase)

    def __call__(self, key: Key) -> float | None:
        """Returns the seconds until the sweep has to be looked at again; None where only a change can matter.

        Raises:
            ClusterError: a call failed.
            NotLeader: this process may not write now.
        """
        for _ in range(MAX_PLANS):
            sweep = self._cluster.read(SWEEPS, *key)
            if sweep is None or "deletionTimestamp" in sweep["metadata"]:
                self._phases.pop(key, None)
                return None
            try:
                again = self._reconcile(key, sweep)
            except DecodeError as error:
                logger.warning("the sweep cannot be read: %s", error, extra={"sweep": "/".join(key)})
                return None
            if again is not None:
                return again or None
        return REQUEUE_SECONDS

    def _reconcile(self, key: Key, sweep: Body) -> float | None:
        """One plan. Returns when to look again, 0 for never, None for at once."""
        uid = sweep["metadata"]["uid"]
        view = SweepView(
            sweep, training_sweep(sweep), read_sweep_status(sweep.get("status")), self._refused.get(uid, "")
        )
        if view.status is not None and view.status.is_terminal:
            self._refused.pop(uid, None)
            self._phases[key] = view.status.phase
            return 0.0
        runs = self._cluster.list_all(RUNS, key[0], labels=f"{SWEEP_LABEL}={key[1]}")
        plan = decide(view, trials_of(sweep, runs), self._now())
        for run in plan.create:
            if self._create(uid, key[0], run):
                self._metrics.trials_started.inc()
                self._report(sweep, [started(run)])
        for change in plan.change:
            self._cluster.patch(RUNS, key[0], change.run, change.patch)
        self._metrics.trials_pruned.inc(len(plan.pruned))
        if patch := merge_patch(sweep.get("status") or {}, to_dict(plan.status)):
            body = {"metadata": {"resourceVersion": sweep["metadata"]["resourceVersion"]}, "status": patch}
            self._cluster.patch_status(SWEEPS, *key, body)
        self._phases[key] = plan.status.phase
        if plan.status.is_terminal:
            self._metrics.sweeps_ended.labels(str(plan.status.phase), str(plan.status.reason)).inc()
        self._report(sweep, [*plan_events(plan), *changes(view.status, plan.status)])
        return None if plan.create or (uid in self._refused and not view.refused) else REQUEUE_SECONDS

    def _report(self, sweep: Body, events: Iterable[RunEvent]) -> None:
        """Creates Events. They are for people; the status says all that they say."""
        identity, docs_url = self._settings.identity, self._settings.docs_url
        for event in events:
            logger.info("%s: %s", event.reason, event.message, extra={"sweep": sweep["metadata"]["name"]})
            manifest = event_manifest(sweep, event, now=self._now(), instance=identity, docs_url=docs_url)
            try:
                self._cluster.create(EVENTS, sweep["metadata"]["namespace"], manifest)
            except ClusterError as error:
                logger.warning("%s", error)

    def _create(self, uid: str, namespace: str, run: Body) -> bool:
        """Creates the run of a trial; returns whether it was not there before."""
        name = run["metadata"]["name"]
        try:
            # A template that was stored under an earlier schema may have fields that no run has.
            self._cluster.create(RUNS, namespace, run, strict=True)
            return True
        except AlreadyExists:
            there = self._cluster.read(RUNS, namespace, name) or {}
            owners = (there.get("metadata") or {}).get("ownerReferences") or ()
            if there and uid not in [item["uid"] for item in owners]:
                self._refused[uid] = (
                    f"TrainingRun {name} exists and is none of this sweep; delete it, or copy the sweep to a new name"
                )
        except Refused as error:
            self._refused[uid] = f"the API server refuses TrainingRun {name}: {error.message}"
        return False
