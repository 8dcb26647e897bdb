"""Carries a Plan out on a cluster, in the plan's order, and says what became of the run."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from atoll_contract.errors import SpecError
from atoll_operator.api.status import DONE, RunStatus, StagePhase, merge_patch, write_status
from atoll_operator.config import Settings
from atoll_operator.controller.cache import WatchCache
from atoll_operator.controller.metrics import Metrics
from atoll_operator.controller.observed import Look, Profile, Stores, Surroundings, view_of_own_job
from atoll_operator.controller.workqueue import Allowance
from atoll_operator.jobs.manifest import build_job, job_name
from atoll_operator.jobs.stage_input import Work, spec_digest
from atoll_operator.kube.client import Body, Cluster
from atoll_operator.kube.errors import AlreadyExists, ClusterError, Conflict, Refused
from atoll_operator.kube.objects import EVENTS, JOBS, RELEASES, REVISIONS, RUNS, event_manifest
from atoll_operator.lifecycle.inputs import published_status, release_manifest
from atoll_operator.lifecycle.model import EventType, JobState, JobView, Plan, ReleaseReport, Reservation, StageAttempt

logger = logging.getLogger(__name__)

# Many runs at once have the same profile, and nobody but an admin's hand deletes its snapshot.
PINNED_SECONDS = 60.0
# Of the time, for Events that all is well; those of a warning are always written.
EVENTS_SHARE = 0.1


class Carrier:
    """Writes to the cluster. A call that fails ends the plan; the next look makes a new one from what is."""

    def __init__(
        self,
        cluster: Cluster,
        surroundings: Surroundings,
        settings: Settings,
        *,
        cache: WatchCache,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._surroundings = surroundings
        self._settings = settings
        self._cache = cache
        self._metrics = metrics
        self._clock = clock
        # When a profile's snapshot was last known to be there.
        self._pinned: dict[str, float] = {}
        self._telling = Allowance(EVENTS_SHARE, time.monotonic)

    def carry_out(self, look: Look, plan: Plan) -> Look:
        """The look as it is afterwards. Raises ClusterError where a call failed."""
        if plan.reserve:
            # Nothing else: the next plan knows the version, and is written as a whole.
            return self._reserve(look, plan.reserve)
        if plan.snapshot_profile:
            self._pin_profile(look)
        if plan.release_status:
            self._report_release(look, plan.release_status)
        look = self._write_status(look, plan.status)
        for attempt in plan.create:
            look = self._create(look, attempt)
        for job in plan.delete:
            self._cluster.delete(JOBS, look.key[0], job.name, uid=job.uid)
            self._cache.forget_jobs(look.ref.uid)
        self._tell(look, plan)
        if plan.delete_run:
            self._cluster.delete(RUNS, *look.key, uid=look.ref.uid)
        return look

    def _pin_profile(self, look: Look) -> None:
        assert look.profile is not None
        revision, moment = look.profile.snapshot.revision, time.monotonic()
        if moment < self._pinned.get(revision, 0.0) + PINNED_SECONDS:
            return
        try:
            self._cluster.create(REVISIONS, self._settings.own_namespace, look.profile.snapshot.manifest())
        except AlreadyExists:
            logger.debug("the profile's snapshot %s is there already", revision)
        self._pinned[revision] = moment

    def _report_release(self, look: Look, report: ReleaseReport) -> None:
        body = {"status": published_status(report, now=self._clock())}
        self._cluster.patch_status(RELEASES, look.key[0], report.name, body)

    def _write_status(self, look: Look, status: RunStatus) -> Look:
        patch = merge_patch(look.run.get("status") or {}, write_status(status))
        if not patch:
            return replace(look, status=status)
        version = look.run["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "status": patch}
        written = self._cluster.patch_status(RUNS, *look.key, body)
        if written is None:
            raise Conflict("patch trainingruns/status", "the run was deleted meanwhile")
        self._count_ends(look, status)
        return look.with_run(written)

    def _count_ends(self, look: Look, status: RunStatus) -> None:
        before = {item.name: item.phase for item in look.status.stages} if look.status else {}
        for stage in status.stages:
            ended = stage.phase in DONE or stage.phase is StagePhase.FAILED
            if ended and before.get(stage.name) is not stage.phase:
                self._metrics.stages_ended.labels(str(stage.name), str(stage.phase), str(stage.reason)).inc()

    def _reserve(self, look: Look, reservation: Reservation) -> Look:
        namespace = look.key[0]
        try:
            release: Body | None = self._cluster.create(RELEASES, namespace, release_manifest(look.run, reservation))
        except AlreadyExists:
            # Another run was faster, or this one before a crash: its object tells whose version it is.
            release = self._cluster.read(RELEASES, namespace, reservation.name)
        return look.with_release(release) if release is not None else look

    def _create(self, look: Look, attempt: StageAttempt) -> Look:
        if look.stores is None:
            look = replace(look, stores=self._surroundings.stores(look.key[0], look.spec))
        assert look.stores is not None
        assert look.profile is not None
        if look.stores.missing:
            return look
        try:
            work = _work(look, look.profile, look.stores)
            manifest = build_job(replace(work, store_retry_timeout=self._settings.store_patience), attempt)
        except SpecError as error:
            return replace(look, problem=error.message)
        extra = {"run": "/".join(look.key), "stage": str(attempt.stage), "attempt": attempt.attempt}
        try:
            created = self._cluster.create(JOBS, look.key[0], manifest)
            self._cache.keep_job(look.ref.uid, created)
            body: Body | None = created
            logger.info("created Job %s", manifest["metadata"]["name"], extra=extra)
        except AlreadyExists:
            # Made before a crash, or somebody else's; its owner tells.
            self._cache.forget_jobs(look.ref.uid)
            body = self._cluster.read(JOBS, look.key[0], manifest["metadata"]["name"])
        except Refused as refusal:
            logger.warning("%s", refusal, extra=extra)
            return look.with_job(self._rejected(look, attempt, refusal))
        job = view_of_own_job(look.ref, body, stage=attempt.stage, attempt=attempt.attempt) if body else None
        return look.with_job(job, again_after=self._settings.poll.first) if job else look

    def _rejected(self, look: Look, attempt: StageAttempt, refusal: Refused) -> JobView:
        now = self._clock()
        return JobView(
            name=job_name(look.ref.name, look.ref.uid, attempt.stage, attempt.attempt),
            uid="",
            owner_uid=look.ref.uid,
            stage=attempt.stage,
            attempt=attempt.attempt,
            state=JobState.REJECTED,
            created=now,
            finished=now,
            failure_message=refusal.message,
        )

    def _tell(self, look: Look, plan: Plan) -> None:
        for event in plan.events:
            logger.info("%s: %s", event.reason, event.message, extra={"run": "/".join(look.key)})
            if event.type is EventType.NORMAL and self._telling.is_spent:
                continue
            manifest = event_manifest(look.run, event, now=self._clock(), instance=self._settings.identity)
            try:
                with self._telling.spend():
                    self._cluster.create(EVENTS, look.key[0], manifest)
            except ClusterError as error:
                # Events are for reading; the status holds everything they say.
                logger.warning("%s", error)


def _work(look: Look, profile: Profile, stores: Stores) -> Work:
    dataset = look.status.dataset if look.status else None
    provenance = {"specDigest": spec_digest(look.run), "seed": str(look.spec.training.seed)}
    if dataset is not None:
        provenance["datasetDigest"] = dataset.digest
    return Work(
        run=look.ref,
        spec=look.spec,
        profile=profile.spec,
        stores=stores.by_name,
        labels=look.run["metadata"].get("labels") or {},
        start_release=stores.start_release,
        provenance=provenance,
    )
