"""What one look at a run has found, and the reading of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from atoll_contract.codec import DecodeError
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_operator.api.types import TrainingRunSpec
from atoll_operator.jobs.manifest import ATTEMPT_LABEL, RUN_UID_LABEL, STAGE_LABEL, job_name
from atoll_operator.kube.cluster import Body, Cluster
from atoll_operator.kube.resources import JOBS
from atoll_operator.kube.views import job_view
from atoll_operator.loop.pod_reader import PodReader, Reading
from atoll_operator.loop.run_index import RunIndex
from atoll_operator.loop.surroundings import Profile, Stores, Surroundings, invalid, parse_run
from atoll_operator.loop.watch_cache import WatchCache
from atoll_operator.releases import highest_version, own_release
from atoll_operator.status import DONE, RunStatus, StagePhase
from atoll_operator.status_document import read_status
from atoll_operator.views import JobState, JobView, PodView, QueueView, RunView
from atoll_operator.views_spec import RETRY_ANNOTATION, run_view

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """A run as its API object, typed, and with what is around it. `stores` and `releases` are None while nothing
    needs them."""

    run: Body
    spec: TrainingRunSpec
    problem: str = ""
    status: RunStatus | None = None
    profile: Profile | None = None
    stores: Stores | None = None
    releases: tuple[Body, ...] | None = None
    readings: tuple[Reading, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.run["metadata"]["namespace"], self.run["metadata"]["name"]

    @property
    def ref(self) -> RunRef:
        return RunRef(*self.key, self.run["metadata"]["uid"])

    @property
    def jobs(self) -> tuple[JobView, ...]:
        return tuple(reading.job for reading in self.readings)

    @property
    def pods(self) -> tuple[PodView, ...]:
        return tuple(pod for reading in self.readings for pod in reading.pods)

    @property
    def pods_again_after(self) -> float | None:
        waits = [reading.again_after for reading in self.readings if reading.again_after is not None]
        return min(waits, default=None)

    def with_run(self, run: Body) -> Look:
        """The same after the run's status was written."""
        return replace(self, run=run, status=parse_status(run))

    def with_job(self, job: JobView, *, again_after: float | None = None) -> Look:
        """The same with this Job in its place, whose pods are to be read so many seconds from now."""
        others = tuple(reading for reading in self.readings if reading.job.name != job.name)
        return replace(self, readings=(*others, Reading(job, again_after=again_after)))

    def with_release(self, release: Body) -> Look:
        name = release["metadata"]["name"]
        others = tuple(item for item in self.releases or () if item["metadata"]["name"] != name)
        return replace(self, releases=(*others, release))

    def view(self, index: RunIndex, *, now: datetime) -> RunView:
        """What `decide` sees. Ask while holding `index.deciding`, as it contains the place in the queue."""
        slots = self.profile.spec.max_concurrent_runs if self.profile else 1
        idle = self.status is not None and self.status.is_terminal
        # The status is left out here: one that nobody can read must not keep the run from being looked at.
        view = replace(
            run_view({**self.run, "status": None}, self.spec),
            status=self.status,
            profile=self.profile.view if self.profile else None,
            invalid=invalid(self.spec, self.profile, problem=self.problem),
            missing=self.stores.missing if self.stores else "",
            queue=QueueView() if idle else index.place(self.run, slots=slots, now=now),
            release=own_release(self.releases or (), model=self.spec.model, run_uid=self.ref.uid),
            highest_version=highest_version(self.releases or (), model=self.spec.model),
        )
        if idle or (self.status is not None and self.status.estimate is not None):
            return view
        default = self.profile.spec.estimate if self.profile else None
        return replace(view, estimate=index.timings.estimate(self.key[0], self.spec, on=view.runs_on, default=default))


class Looker:
    """Reads a Look. What a run that rests or works does not need is left unread."""

    def __init__(self, cluster: Cluster, surroundings: Surroundings, pods: PodReader, cache: WatchCache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._surroundings = surroundings
        self._pods = pods

    def look(self, run: Body) -> Look:
        spec, problem = parse_run(run)
        status = parse_status(run)
        found = Look(run, spec, problem, status)
        found = replace(found, readings=tuple(self._readings(found)))
        if status is not None and status.is_terminal and _retry(run) == status.last_handled_retry:
            return found
        namespace = found.key[0]
        found = replace(found, profile=self._surroundings.profile(spec, status))
        if all(job.is_finished for job in found.jobs):
            smoothly = bool(found.jobs) and all(job.state is JobState.SUCCEEDED for job in found.jobs)
            found = replace(found, stores=self._surroundings.stores(namespace, spec, smoothly=smoothly))
        return found

    def with_releases(self, look: Look) -> Look:
        """The same with the ModelReleases of the run's model: a version is about to be reserved."""
        return replace(look, releases=tuple(self._surroundings.releases(look.key[0], look.spec.model)))

    def _readings(self, look: Look) -> Iterator[Reading]:
        namespace, uid = look.key[0], look.ref.uid
        bodies = self._cache.jobs(uid)
        if bodies is None:
            bodies = self._cluster.list_all(JOBS, namespace, labels=f"{RUN_UID_LABEL}={uid}")
            self._cache.keep_jobs(uid, bodies)
        for job in own_jobs(look.run, bodies):
            yield self._pods.read(namespace, job, recorded=_is_recorded(look.status, job))


def own_jobs(run: Body, bodies: Iterable[Body]) -> Iterator[JobView]:
    """The views of those Jobs whose names are the run's."""
    metadata = run["metadata"]
    ref = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
    for body in bodies:
        job = view_of_own_job(ref, body)
        if job is not None:
            yield job


def view_of_own_job(run: RunRef, body: Body, *, stage: Stage | None = None, attempt: int = 0) -> JobView | None:
    """The Job's view, or None where its name is not the one that a Job of its stage and attempt has. Stage and
    attempt are read from its labels unless given."""
    if stage is None:
        labels = body["metadata"].get("labels") or {}
        if labels.get(STAGE_LABEL) not in list(Stage) or not labels.get(ATTEMPT_LABEL, "").isdecimal():
            return None
        stage, attempt = Stage(labels[STAGE_LABEL]), int(labels[ATTEMPT_LABEL])
    if body["metadata"]["name"] != job_name(run.name, run.uid, stage, attempt):
        return None
    return job_view(body, stage=stage, attempt=attempt)


def parse_status(run: Body) -> RunStatus | None:
    """The run's status; None where there is none, or one that no operator wrote: the Jobs then tell what is."""
    try:
        return read_status(run.get("status"))
    except DecodeError as error:
        logger.warning("the status of %s is none: %s", run["metadata"]["name"], error)
        return None


def _is_recorded(status: RunStatus | None, job: JobView) -> bool:
    """Whether the Job's end stands in the status already, so that its pods need not be read."""
    if status is None:
        return False
    stage = next((item for item in status.stages if item.name is job.stage), None)
    if status.is_terminal or (stage is not None and stage.phase in DONE):
        return True
    if stage is None or job.state is not JobState.FAILED:
        return False
    over = stage.phase is StagePhase.PENDING and stage.job_ref is not None and stage.job_ref.uid == job.uid
    return job.attempt < stage.attempts or (job.attempt == stage.attempts and over)


def _retry(run: Body) -> str | None:
    value = (run["metadata"].get("annotations") or {}).get(RETRY_ANNOTATION)
    return None if value is None else str(value)
