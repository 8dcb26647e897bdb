"""The version that a run publishes: reserved by creating its ModelRelease, before the publish Job exists. Pure."""

from dataclasses import replace

from atoll_contract.stage import Stage
from atoll_operator.plan import Reservation
from atoll_operator.status import ReleaseStatus, RunStatus
from atoll_operator.views import RunView


def with_reserved_version(run: RunView, status: RunStatus) -> RunStatus | None:
    """`status` with the run's own version, or None while it has none that is high enough.

    After a VersionConflict `status.release` already names the next free number, which is still to be reserved.
    """
    wanted = status.release.version if status.release else 1
    if run.release is None or run.release.version < wanted:
        return None
    return replace(status, release=ReleaseStatus(run.release.name, run.release.version))


def reservation(run: RunView, status: RunStatus) -> Reservation:
    """The ModelRelease to create: one more than the highest known version, or what a conflict has shown to be free."""
    wanted = status.release.version if status.release else 1
    version = max(run.highest_version + 1, wanted)
    model = next((item for item in status.stage(Stage.EXPORT).outputs if item.name == "model"), None)
    digest = f"sha256:{model.sha256}" if model else ""
    return Reservation(f"{run.model}-v{version}", run.model, version, run.channel, digest)
