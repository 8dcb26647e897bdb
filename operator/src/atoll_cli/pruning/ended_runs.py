"""Removes TrainingRuns that ended long ago from a cluster, after it has written them to the store or a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from atoll_cli.pruning.groups import Group, Kind, RetentionPolicy, format_days, known_run
from atoll_contract import keys
from atoll_contract.document import to_json
from atoll_contract.store.base import Store
from atoll_operator.kube.objects import RUNS

if TYPE_CHECKING:
    from atoll_cli.cluster_access import ClusterAccess

Body = dict[str, Any]


class EndedRuns:
    """The TrainingRuns of one namespace that ended longer ago than the policy says. `archive` gets them as JSON."""

    def __init__(
        self,
        access: ClusterAccess,
        archive: Store,
        policy: RetentionPolicy,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._archive = archive
        self._policy = policy
        self._clock = clock

    @property
    def url(self) -> str:
        """Where the files go."""
        return self._archive.url

    def groups(self) -> list[Group]:
        """One group for each run; its key is that of the JSON file.

        Raises:
            SpecError: the status of a run cannot be read.
        """
        return [group for body in self._access.runs() if (group := self._group(body)) is not None]

    def recheck(self, found: Group) -> Group | None:
        """The group as it is now; None if its run is gone, another one of its name, or to start again."""
        body = self._read(found)
        now = self._group(body) if body is not None else None
        return now if now is not None and now.keys == found.keys else None

    def remove(self, found: Group) -> None:
        """Writes the run's JSON and then deletes the run.

        Raises:
            StoreError: it could not be written; the run stays.
            ClusterError: it could not be deleted; the file is written again by the next call.
        """
        body = self._read(found)
        if body is None:
            return
        self._archive.put(found.keys[0], to_json(_bare(body)))
        metadata = body["metadata"]
        self._access.cluster.delete(RUNS, self._access.namespace, metadata["name"], uid=metadata["uid"])

    def _read(self, found: Group) -> Body | None:
        return self._access.cluster.read(RUNS, self._access.namespace, found.name)

    def _group(self, body: Body) -> Group | None:
        known, metadata = known_run(body), body["metadata"]
        if known.ended is None or self._clock() - known.ended < self._policy.older_than:
            return None
        key = keys.archived_run(self._access.namespace, metadata["name"], known.uid)
        why = f"it ended {format_days(self._clock() - known.ended)} ago"
        return Group(Kind.TRAINING_RUN, metadata["name"], why, (key,), len(to_json(_bare(body))))


def _bare(body: Body) -> Body:
    """The run without `managedFields`, which are longer than all the rest and of no use in a file."""
    return body | {"metadata": {key: value for key, value in body["metadata"].items() if key != "managedFields"}}
