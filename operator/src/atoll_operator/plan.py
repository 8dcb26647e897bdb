"""What `decide` wants done. An engine carries a plan out in the order of its fields, and stops at the first error:

`pin_profile`, `release_status`, `status`, `reserve`, `create`, `delete`, `events`, `delete_run`.

So a recorded success is in the status before the next Job exists and before a finished one may go, and a plan that
was broken off anywhere is made again from what is. After `create` the engine decides again with what the API answered
to the creation (or a REJECTED JobView), so that the Job's uid is recorded: at once where the Job was refused or is none
of the run's, else at the latest when its pods are first read. After `reserve`, too, it decides again at once; it may
leave the rest of that plan to the next one, which has it all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from atoll_contract.manifest import ManifestRef
from atoll_contract.result import Artifact
from atoll_contract.stage import Stage
from atoll_operator.status import RunStatus


@dataclass(frozen=True)
class StageAttempt:
    """A Job to create: `jobs.build_job` makes its manifest. `version` is set for publish.

    `active_deadline_seconds` is a belt for the time when no engine looks; `decide` ends a run before it.
    """

    stage: Stage
    attempt: int
    upstream: Mapping[Stage, tuple[Artifact, ...]]
    active_deadline_seconds: int
    accelerator: str = "auto"
    version: int | None = None


@dataclass(frozen=True)
class JobToDelete:
    """Delete with `uid` as a precondition; a Job that is gone is fine.

    While a Job is still there and `deleting`, no other attempt begins. Where its object goes before its pods do
    (background propagation), the old pod may save its checkpoint beside the next attempt: attempts write under
    prefixes of their own, and checkpoints are written whole.
    """

    name: str
    uid: str


@dataclass(frozen=True)
class Reservation:
    """Create the ModelRelease `name`; where it exists already, read again: `decide` takes the next number."""

    name: str
    model: str
    version: int
    channel: str
    model_digest: str


@dataclass(frozen=True)
class ReleaseReport:
    """The status of the run's ModelRelease."""

    name: str
    manifest: ManifestRef
    ap50: str
    tpu: str


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True)
class RunEvent:
    """A Kubernetes Event on the run, once for a transition."""

    type: EventType
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """`status` is whole; write it only where it differs. `requeue_after` is None where only a change can matter."""

    status: RunStatus
    pin_profile: bool = False
    release_status: ReleaseReport | None = None
    reserve: Reservation | None = None
    create: tuple[StageAttempt, ...] = ()
    delete: tuple[JobToDelete, ...] = ()
    events: tuple[RunEvent, ...] = field(default=())
    delete_run: bool = False
    requeue_after: float | None = None
