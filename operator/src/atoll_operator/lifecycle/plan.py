"""What `decide` returns: the Plan, and what it has the engine write, reserve and delete."""

from dataclasses import dataclass
from enum import StrEnum

from atoll_contract.release import ManifestRef
from atoll_operator.api.status import RunStatus
from atoll_operator.lifecycle.model import StageAttempt


@dataclass(frozen=True)
class JobToDelete:
    """Delete with `uid` as a precondition; a Job that is gone already is no error.

    While a Job exists and is `deleting`, no other attempt begins. Where the Job is gone before its pods (background
    propagation), the old pod may still save a checkpoint during the next attempt: attempts write under prefixes of
    their own, and checkpoints are written whole.
    """

    name: str
    uid: str
    # Whether the Job stays, `deleting`, until its pods are gone: a pod of publish may not be at work unseen.
    with_pods: bool = False


@dataclass(frozen=True)
class Reservation:
    """Create the ModelRelease `name`. Where it exists already, read again: `decide` takes the next version."""

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
    targets: str | None = None


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True)
class RunEvent:
    """A Kubernetes Event on the run, created once for a transition."""

    type: EventType
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What the engine has to do, in this order: `snapshot_profile` (keep the profile that the status names),
    `release_status`, `status`, `reserve`, `create`, `delete`, `events`, `delete_run`.

    So a success is recorded before the next Job exists, and before a finished Job is deleted. The first error ends the
    plan, and the next one is made from what is there. After `reserve` the engine decides again at once, and may leave
    the rest to the next plan. After `create` it decides again at once where a Job was refused or is not the run's,
    otherwise at the latest when it reads the pods, so that the UID of the Job is recorded.

    `status` is complete and written only where it differs. `requeue_after` is in seconds, None where only a change can
    matter.
    """

    status: RunStatus
    snapshot_profile: bool = False
    release_status: ReleaseReport | None = None
    reserve: Reservation | None = None
    create: tuple[StageAttempt, ...] = ()
    delete: tuple[JobToDelete, ...] = ()
    events: tuple[RunEvent, ...] = ()
    delete_run: bool = False
    requeue_after: float | None = None
