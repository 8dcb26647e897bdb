"""The operator's process: `python -m atoll_operator.main`. The only module that imports kopf.

kopf watches the runs; its handler does nothing but put a run's key into the work queue, which needs no finalizer and no
annotation on anybody's object. Everything else is `loop/service.py`.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from atoll_operator.api import GROUP, VERSION
from atoll_operator.config import ConfigError, Settings, from_environment
from atoll_operator.controller.manager import Service

logger = logging.getLogger(__name__)

LIST_PIECE = 100
# How long kopf keeps an object's last event and the task that waits for the next.
IDLE_SECONDS = 0.5


def build_registry(service: Service, end_work: Callable[[], Awaitable[None]]) -> kopf.OperatorRegistry:
    """The watches of one operator; `end_work` is awaited as soon as it is told to stop."""
    registry = kopf.OperatorRegistry()

    @kopf.on.cleanup(registry=registry)  # type: ignore[untyped-decorator]
    async def clean_up(**_: Any) -> None:
        await end_work()

    @kopf.on.login(id="log-in", registry=registry)  # type: ignore[untyped-decorator]
    def log_in(**arguments: Any) -> Any:
        # kopf's default would go through the client library, which refreshes a pod's token later than this.
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    @kopf.on.event(GROUP, VERSION, "trainingruns", registry=registry)  # type: ignore[untyped-decorator]
    async def run_changed(event: dict[str, Any], **_: Any) -> None:
        service.run_changed(event["type"], event["object"])

    return registry


class NoEssence(kopf.DiffBaseStorage):  # type: ignore[misc]
    """Takes no copies of objects: kopf makes two of each event, to find changes for handlers that this has none of."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is written on anybody's object."""


def build_settings(settings: Settings) -> kopf.OperatorSettings:
    """kopf's own settings."""
    own = kopf.OperatorSettings()
    own.networking.request_timeout = settings.request_timeout
    own.networking.connect_timeout = 10
    # Objects that were there before are read in pieces, and an event is not kept for long: both fill the memory.
    own.watching.chunk_size = LIST_PIECE
    own.queueing.idle_timeout = IDLE_SECONDS
    own.persistence.diffbase_storage = NoEssence()
    own.watching.inactivity_timeout = settings.watch_silence
    # The operator writes its Events itself.
    own.posting.enabled = False
    # With named namespaces the account may list neither namespaces nor CRDs.
    own.scanning.disabled = bool(settings.namespaces)
    return own


async def serve(settings: Settings) -> None:
    """Runs the operator until SIGTERM or SIGINT. Raises what a part of it raised."""
    service = Service(settings)
    stop = asyncio.Event()
    working = asyncio.create_task(service.run())

    async def end_work() -> None:
        working.cancel()
        await asyncio.wait([working])
        await service.stop()

    watching = asyncio.create_task(
        kopf.operator(
            registry=build_registry(service, end_work),
            settings=build_settings(settings),
            standalone=True,
            # kopf's own name for itself asks for the user's, and user 65532 of a pod has none.
            identity=settings.identity,
            clusterwide=not settings.namespaces,
            namespaces=list(settings.namespaces),
            liveness_endpoint=settings.liveness or None,
            stop_flag=stop,
        )
    )
    await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.wait([watching])
    # Once more, for a kopf that failed before it could clean up.
    await end_work()
    ends = await asyncio.gather(watching, working, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
            raise end


def main() -> int:
    try:
        settings = from_environment()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    kopf.configure(log_format=kopf.LogFormat.JSON if settings.log_format == "json" else kopf.LogFormat.FULL)
    # kopf tells of every handled event; the transitions of runs are told by the operator itself.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    # One line for each probe of the kubelet.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
