"""The operator's process: `python -m atoll_operator.main`. The only module that imports kopf.

kopf does the login, the liveness probe, the signals, and the watch of TrainingRuns. Its one handler only puts the run's
key into the work queue: if a handler did the work itself, kopf would either not retry its errors, or need annotations
or finalizers on users' objects. All the rest is in `controller/manager.py`, including the watches of Jobs and pods,
whose events are too many for kopf.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from atoll_operator.api import GROUP, VERSION
from atoll_operator.config import ConfigError, Settings, from_environment
from atoll_operator.controller.manager import Manager

logger = logging.getLogger(__name__)

LIST_PAGE = 100
# How long kopf keeps an object's last event and the task that waits for the next one.
IDLE_SECONDS = 0.5


def build_registry(manager: Manager, shut_down: Callable[[], Awaitable[None]]) -> kopf.OperatorRegistry:
    """Returns kopf's handlers. `shut_down` is awaited as soon as kopf is to stop."""
    registry = kopf.OperatorRegistry()

    @kopf.on.cleanup(registry=registry)  # type: ignore[untyped-decorator]
    async def clean_up(**_: Any) -> None:
        await shut_down()

    @kopf.on.login(id="log-in", registry=registry)  # type: ignore[untyped-decorator]
    def log_in(**arguments: Any) -> Any:
        # kopf's default uses the client library, which refreshes a pod's token later than this does.
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    @kopf.on.event(GROUP, VERSION, "trainingruns", registry=registry)  # type: ignore[untyped-decorator]
    async def on_run_event(event: dict[str, Any], **_: Any) -> None:
        manager.events.on_run_event(event["type"], event["object"])

    return registry


class NoDiffBase(kopf.DiffBaseStorage):  # type: ignore[misc]
    """Keeps no copies of objects. kopf makes two per event to find changes, for kinds of handlers that are not used."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Writes no annotation."""


def build_settings(settings: Settings) -> kopf.OperatorSettings:
    """Returns kopf's own settings."""
    own = kopf.OperatorSettings()
    own.networking.request_timeout = settings.request_timeout
    own.networking.connect_timeout = 10
    # To save memory, existing objects are listed in pages, and an event is not kept for long.
    own.watching.chunk_size = LIST_PAGE
    own.queueing.idle_timeout = IDLE_SECONDS
    own.persistence.diffbase_storage = NoDiffBase()
    own.watching.inactivity_timeout = settings.watch_silence
    # The operator creates its Events itself.
    own.posting.enabled = False
    # With named namespaces the account may list neither namespaces nor CRDs.
    own.scanning.disabled = bool(settings.namespaces)
    return own


async def serve(settings: Settings) -> None:
    """Runs the operator until SIGTERM or SIGINT. Raises what kopf or the manager raised."""
    manager = Manager(settings)
    stop = asyncio.Event()
    managing = asyncio.create_task(manager.run())

    async def shut_down() -> None:
        managing.cancel()
        await asyncio.wait([managing])
        await manager.stop()

    watching = asyncio.create_task(
        kopf.operator(
            registry=build_registry(manager, shut_down),
            settings=build_settings(settings),
            standalone=True,
            # kopf's default contains the name of the user, and user 65532 of a pod has none.
            identity=settings.identity,
            clusterwide=not settings.namespaces,
            namespaces=list(settings.namespaces),
            liveness_endpoint=settings.liveness or None,
            stop_flag=stop,
        )
    )
    await asyncio.wait([managing, watching], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.wait([watching])
    # Again, as kopf may have failed before its clean-up.
    await shut_down()
    for result in await asyncio.gather(watching, managing, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


def main() -> int:
    try:
        settings = from_environment()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    kopf.configure(log_format=kopf.LogFormat.JSON if settings.log_format == "json" else kopf.LogFormat.FULL)
    # kopf logs every event that it handles; the operator logs the transitions of runs.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    # One line for each probe by the kubelet.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
