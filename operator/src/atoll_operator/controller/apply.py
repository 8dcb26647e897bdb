"""Carries out a Plan on the cluster, in the order that `Plan` gives."""

import logging
from dataclasses import replace

from atoll_contract.errors import SpecError
from atoll_operator.api.status import DONE, Phase, RunStatus, StagePhase
from atoll_operator.api.status_codec import patched, status_patch
from atoll_operator.config import Settings
from atoll_operator.controller.cache import Cache, ExpiringDict, Profile, Stores
from atoll_operator.controller.job_cache import view_of_own_job
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.observed import Observed, ReferencedObjects
from atoll_operator.controller.workqueue import TimeBudget
from atoll_operator.jobs.manifest import build_job, build_worker_objects, job_name
from atoll_operator.jobs.stage_input import Work, spec_digest
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.clock import TimeSource
from atoll_operator.kube.errors import AlreadyExists, ClusterError, Conflict, Refused
from atoll_operator.kube.objects import (
    EVENTS,
    JOBS,
    NETWORK_POLICIES,
    RELEASES,
    REVISIONS,
    RUNS,
    SERVICES,
    event_manifest,
)
from atoll_operator.kube.transport import Body
from atoll_operator.lifecycle.inputs import published_status, release_manifest
from atoll_operator.lifecycle.model import JobState, JobView, StageAttempt
from atoll_operator.lifecycle.plan import EventType, Plan, ReleaseReport, Reservation

logger = logging.getLogger(__name__)

# Of the time, for Normal Events; those of type Warning are always written.
EVENTS_SHARE = 0.1
# A run's position in the queue is written this often: with short runs and a long queue, each end would write many.
POSITION_SECONDS = 30.0


class Applier:
    """Writes to the cluster. A call that fails ends the plan; the next reconcile makes a new one from what is there."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        refs: ReferencedObjects,
        settings: Settings,
        *,
        metrics: OperatorMetrics,
        times: TimeSource,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._refs = refs
        self._settings = settings
        self._metrics = metrics
        self._times = times
        self._events_budget = TimeBudget(EVENTS_SHARE, times.monotonic)
        # UIDs of queued runs whose position was written a moment ago.
        self._positioned: ExpiringDict[str, bool] = ExpiringDict(times.monotonic, seconds=POSITION_SECONDS)

    def apply(self, observed: Observed, plan: Plan) -> Observed:
        """Returns what is there afterwards. Raises ClusterError where a call failed."""
        if plan.reserve:
            # Nothing else: the next plan knows the version, and is carried out as a whole.
            try:
                return self._reserve(observed, plan.reserve)
            except ClusterError:
                # While no version can be reserved, the status says all the same what has succeeded.
                self._write_status(observed, plan.status)
                raise
        if plan.snapshot_profile:
            self._create_snapshot(observed)
        if plan.release_status:
            self._write_release_status(observed, plan.release_status)
        observed = self._write_status(observed, plan.status)
        for attempt in plan.create:
            observed = self._create_job(observed, attempt)
        for job in plan.delete:
            self._cluster.delete(JOBS, observed.key[0], job.name, uid=job.uid, foreground=job.with_pods)
            self._cache.jobs.drop(observed.run_uid)
        self._create_events(observed, plan)
        if plan.delete_run:
            self._cluster.delete(RUNS, *observed.key, uid=observed.ref.uid)
        return observed

    def _create_snapshot(self, observed: Observed) -> None:
        assert observed.profile is not None
        snapshot = observed.profile.snapshot
        if self._cache.snapshotted.get(snapshot.revision):
            return
        started = self._times.monotonic()
        try:
            self._cluster.create(REVISIONS, self._settings.own_namespace, snapshot.manifest())
        except AlreadyExists:
            logger.debug("the profile's snapshot %s is there already", snapshot.revision)
        self._cache.snapshotted.put(snapshot.revision, True, at=started)

    def _write_release_status(self, observed: Observed, report: ReleaseReport) -> None:
        body = {"status": published_status(report, now=self._times.now())}
        self._cluster.patch_status(RELEASES, observed.key[0], report.name, body)

    def _write_status(self, observed: Observed, status: RunStatus) -> Observed:
        patch = status_patch(observed.run.get("status"), observed.status, status)
        if not patch or (_is_position_alone(observed.status, status) and self._positioned.get(observed.ref.uid)):
            return replace(observed, status=status)
        written = self._cluster.replace_status(RUNS, observed.run, patched(observed.run.get("status") or {}, patch))
        if written is None:
            raise Conflict("update trainingruns/status", "the run was deleted meanwhile")
        self._cache.note_own_write(written)
        if status.phase is Phase.QUEUED:
            self._positioned.put(observed.ref.uid, True)
        self._count_ends(observed, status)
        return observed.with_run(written)

    def _count_ends(self, observed: Observed, status: RunStatus) -> None:
        before = {item.name: item.phase for item in observed.status.stages} if observed.status else {}
        for stage in status.stages:
            ended = stage.phase in DONE or stage.phase is StagePhase.FAILED
            if ended and before.get(stage.name) is not stage.phase:
                self._metrics.stages_ended.labels(str(stage.name), str(stage.phase), str(stage.reason)).inc()

    def _reserve(self, observed: Observed, reservation: Reservation) -> Observed:
        namespace, manifest = observed.key[0], release_manifest(observed.run, reservation)
        try:
            release: Body | None = self._cluster.create(RELEASES, namespace, manifest)
        except AlreadyExists:
            # Created by another run, or by this one before a crash: the object says whose version it is.
            release = self._cluster.read(RELEASES, namespace, reservation.name)
        return observed.with_release(release) if release is not None else observed

    def _create_job(self, observed: Observed, attempt: StageAttempt) -> Observed:
        if observed.stores is None:
            observed = replace(observed, stores=self._refs.stores(observed.key[0], observed.spec))
        assert observed.stores is not None
        assert observed.profile is not None
        if observed.stores.missing:
            return observed
        try:
            work = _work(observed, observed.profile, observed.stores)
            work = replace(work, store_retry_timeout=self._settings.store_retry_timeout)
            manifest, beside = build_job(work, attempt), build_worker_objects(work, attempt)
        except SpecError as error:
            return replace(observed, problem=error.message)
        extra = {"run": "/".join(observed.key), "stage": str(attempt.stage), "attempt": attempt.attempt}
        try:
            for item in beside:
                self._create_beside(observed.key[0], item)
            created = self._cluster.create(JOBS, observed.key[0], manifest)
            self._cache.put_job(created)
            body: Body | None = created
            logger.info("created Job %s", manifest["metadata"]["name"], extra=extra)
        except AlreadyExists:
            # Created before a crash, or by somebody else: its owner reference says whose it is.
            self._cache.jobs.drop(observed.run_uid)
            body = self._cluster.read(JOBS, observed.key[0], manifest["metadata"]["name"])
        except Refused as refusal:
            logger.warning("%s", refusal, extra=extra)
            return observed.with_job(self._rejected(observed, attempt, refusal))
        if body is None:
            return observed
        job = view_of_own_job(observed.ref, body, stage=attempt.stage, attempt=attempt.attempt, target=attempt.target)
        return observed.with_job(job, requeue_after=self._settings.poll.first) if job else observed

    def _create_beside(self, namespace: str, manifest: Body) -> None:
        """Creates what a Job needs beside it, unless an earlier attempt has."""
        resource = SERVICES if manifest["kind"] == "Service" else NETWORK_POLICIES
        try:
            self._cluster.create(resource, namespace, manifest)
        except AlreadyExists:
            logger.debug("%s %s is there already", manifest["kind"], manifest["metadata"]["name"])

    def _rejected(self, observed: Observed, attempt: StageAttempt, refusal: Refused) -> JobView:
        now = self._times.now()
        return JobView(
            name=job_name(observed.ref.name, observed.ref.uid, attempt.stage, attempt.attempt, target=attempt.target),
            uid="",
            owner_uid=observed.ref.uid,
            stage=attempt.stage,
            attempt=attempt.attempt,
            target=attempt.target,
            state=JobState.REJECTED,
            created=now,
            finished=now,
            failure_message=refusal.message,
        )

    def _create_events(self, observed: Observed, plan: Plan) -> None:
        for event in plan.events:
            logger.info("%s: %s", event.reason, event.message, extra={"run": "/".join(observed.key)})
            if event.type is EventType.NORMAL and self._events_budget.is_spent:
                continue
            manifest = event_manifest(
                observed.run,
                event,
                now=self._times.now(),
                instance=self._settings.identity,
                docs_url=self._settings.docs_url,
            )
            try:
                with self._events_budget.spend():
                    self._cluster.create(EVENTS, observed.key[0], manifest)
            except ClusterError as error:
                # Events are for people; the status says all that they say.
                logger.warning("%s", error)


def _is_position_alone(before: RunStatus | None, after: RunStatus) -> bool:
    """Returns whether the run waits in the queue as before: at most its position has changed."""
    if before is None or not before.phase is after.phase is Phase.QUEUED:
        return False
    return before.observed_generation == after.observed_generation and before.estimate == after.estimate


def _work(observed: Observed, profile: Profile, stores: Stores) -> Work:
    dataset = observed.status.dataset if observed.status else None
    provenance = {"specDigest": spec_digest(observed.run), "seed": str(observed.spec.training.seed)}
    if dataset is not None:
        provenance["datasetDigest"] = dataset.digest
    return Work(
        run=observed.ref,
        spec=observed.spec,
        profile=profile.spec,
        stores=stores.by_name,
        labels=observed.run["metadata"].get("labels") or {},
        start_release=stores.start_release,
        provenance=provenance,
    )
