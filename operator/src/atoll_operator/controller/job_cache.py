"""The Jobs of the runs that are not over, merged by version from events, lists and creations.

An answer of the API server may arrive after an event that is newer: neither a list nor the answer to a creation
overwrites what a watch has reported since, and neither brings a deleted Job back.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_operator.jobs.manifest import (
    ATTEMPT_LABEL,
    FOLLOWING_LABEL,
    STAGE_LABEL,
    TARGET_LABEL,
    job_name,
    parse_following,
)
from atoll_operator.kube.objects import bare_job, job_view, owner_uid, resource_version
from atoll_operator.kube.watch import MODIFIED
from atoll_operator.lifecycle.model import JobView

Body = dict[str, Any]
# Namespace and UID of a run: whoever may create Jobs in another namespace must not get one taken for the run's.
RunUid = tuple[str, str]

# What a line of a watch of Jobs contains if it matters. The API server writes no spaces.
_MARKS = (b'"conditions":[', b'"deletionTimestamp":', b'"suspend":true')
_UID = re.compile(rb'"uid":"([^"]*)"')


@dataclass(frozen=True)
class JobVersion:
    """A Job as of a version; `job` is None where that version is its deletion."""

    number: int
    job: Body | None

    def differs(self, known: JobVersion | None) -> bool:
        """Returns whether more than the version is another. Most events of a Job are about its counters."""
        before = known.job if known is not None else None
        if before is None or self.job is None:
            return before is not self.job
        return _without_version(before) != _without_version(self.job)


Versions = dict[str, JobVersion]


class JobCache:
    """The Jobs of each run by name. A run whose Jobs were never listed is unknown. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[RunUid, Versions] = {}
        # What was reported of a run while a list of its Jobs is under way.
        self._reported: dict[RunUid, Versions] = {}
        self._newest = 0
        # UIDs of Jobs that are suspended as far as is known.
        self._suspended: set[str] = set()

    def get(self, run: RunUid) -> list[Body] | None:
        with self._lock:
            known = self._known.get(run)
            return None if known is None else _existing(known)

    def read(self, run: RunUid, list_live: Callable[[], Iterable[Body]]) -> list[Body]:
        """Returns the run's Jobs, and lists them where they are not known.

        What is reported while `list_live` is under way counts where it is newer. After a `drop` or `clear` meanwhile,
        the answer may be too old to be kept.
        """
        with self._lock:
            if run in self._known:
                return _existing(self._known[run])
            reported = self._reported[run] = {}
        try:
            listed = [job for job in list_live() if run_of(job) == run]
        except BaseException:
            with self._lock:
                self._end_list(run, reported)
            raise
        with self._lock:
            jobs: Versions = {}
            for job in listed:
                self._put(jobs, job["metadata"]["name"], JobVersion(resource_version(job), bare_job(job)))
            for name, version in reported.items():
                self._put(jobs, name, version)
            if self._end_list(run, reported):
                self._known[run] = jobs
            return _existing(jobs)

    def read_all(self, runs: Iterable[RunUid], list_live: Callable[[], Iterable[Body]]) -> None:
        """Takes the Jobs of many runs from one list, with the same rules as `read`. A Job that was known before and is
        not listed is gone."""
        with self._lock:
            wanted, before = set(runs), self._newest
            begun = {run: self._reported.setdefault(run, {}) for run in wanted if run not in self._known}
        listed: dict[RunUid, Versions] = {run: {} for run in wanted}
        try:
            for job in list_live():
                run = run_of(job)
                if run in listed:
                    listed[run][job["metadata"]["name"]] = JobVersion(resource_version(job), bare_job(job))
        except BaseException:
            with self._lock:
                for run, reported in begun.items():
                    self._end_list(run, reported)
            raise
        with self._lock:
            for run, jobs in listed.items():
                self._merge(run, jobs, begun.get(run), before=before)

    def _merge(self, run: RunUid, listed: Versions, reported: Versions | None, *, before: int) -> None:
        if reported is not None:
            if not self._end_list(run, reported):
                return
            known = reported
        elif run in self._known:
            known = {name: job for name, job in self._known[run].items() if name in listed or job.number > before}
        else:
            return
        jobs: Versions = {}
        for versions in (listed, known):
            for name, version in versions.items():
                self._put(jobs, name, version)
        self._known[run] = jobs

    def put(self, run: RunUid, job: Body, *, deleted: bool = False) -> bool | None:
        """Takes one of the run's Jobs, as created or reported. Returns whether a reconcile may find something new in
        it; None where the others of its run are not known, and it is not kept."""
        name = job["metadata"]["name"]
        version = JobVersion(resource_version(job), None if deleted else bare_job(job))
        with self._lock:
            if deleted:
                self._suspended.discard(job["metadata"]["uid"])
            if run in self._reported:
                self._put(self._reported[run], name, version)
            if run not in self._known:
                return True if run in self._reported else None
            return self._put(self._known[run], name, version)

    def put_none(self, run: RunUid) -> None:
        """Takes a run that was created just now: a list of its Jobs would bring nothing."""
        with self._lock:
            self._known.setdefault(run, {})

    def drop(self, run: RunUid) -> list[Body]:
        """The next reconcile lists the run's Jobs. Returns those that were known."""
        with self._lock:
            self._reported.pop(run, None)
            return _existing(self._known.pop(run, {}))

    def clear(self) -> None:
        with self._lock:
            self._known.clear()
            self._reported.clear()
            self._suspended.clear()

    def may_matter(self, line: bytes) -> bool:
        """Returns whether a line of a watch of Jobs may matter to a reconcile, without parsing it.

        Most lines are about counters alone. Ends and Kueue's suspension stand in conditions; where Kueue resumes a
        Job, `suspend` may go before the condition comes.
        """
        if not line.startswith(MODIFIED) or any(mark in line for mark in _MARKS):
            return True
        return bool(self._suspended) and any(uid.decode() in self._suspended for uid in _UID.findall(line))

    def _put(self, versions: Versions, name: str, version: JobVersion) -> bool:
        known = versions.get(name)
        if known is not None and known.number > version.number:
            return False
        versions[name] = version
        self._newest = max(self._newest, version.number)
        if version.job is not None:
            self._note_suspension(version.job)
        return version.differs(known)

    def _note_suspension(self, job: Body) -> None:
        if (job.get("spec") or {}).get("suspend"):
            self._suspended.add(job["metadata"]["uid"])
        else:
            self._suspended.discard(job["metadata"]["uid"])

    def _end_list(self, run: RunUid, reported: Versions) -> bool:
        """Returns whether nothing was dropped since the list began."""
        if self._reported.get(run) is not reported:
            return False
        del self._reported[run]
        return True


def run_of(job: Body) -> RunUid | None:
    """Returns the run that controls the Job; None where none does, whatever its labels say."""
    uid = owner_uid(job)
    return (job["metadata"]["namespace"], uid) if uid else None


def is_unfinished(job: Body) -> bool:
    """Returns whether the Job may still have a pod, and nobody has deleted it yet."""
    return "status" not in bare_job(job) and "deletionTimestamp" not in job["metadata"]


def own_jobs(run: Body, bodies: Iterable[Body]) -> Iterator[JobView]:
    """Yields the views of the Jobs whose names are the run's."""
    metadata = run["metadata"]
    ref = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
    for body in bodies:
        labels = body["metadata"].get("labels") or {}
        stage, attempt = labels.get(STAGE_LABEL), labels.get(ATTEMPT_LABEL, "")
        if stage in list(Stage) and attempt.isdecimal():
            target = labels.get(TARGET_LABEL)
            job = view_of_own_job(ref, body, stage=Stage(stage), attempt=int(attempt), target=target)
            if job is not None:
                yield job


def view_of_own_job(
    run: RunRef, body: Body, *, stage: Stage, attempt: int, target: str | None = None
) -> JobView | None:
    """Returns the Job's view, or None where the Job of this stage, target and attempt has another name, or further
    stages that cannot be told."""
    following = parse_following((body["metadata"].get("labels") or {}).get(FOLLOWING_LABEL, ""))
    if following is None or body["metadata"]["name"] != job_name(run.name, run.uid, stage, attempt, target=target):
        return None
    return replace(job_view(body, stage=stage, attempt=attempt, following=following), target=target)


def _existing(versions: Mapping[str, JobVersion]) -> list[Body]:
    return [version.job for version in versions.values() if version.job is not None]


def _without_version(job: Body) -> Body:
    metadata = {key: value for key, value in job["metadata"].items() if key != "resourceVersion"}
    return job | {"metadata": metadata}
