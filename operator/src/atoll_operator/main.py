"""The operator's process: `python -m atoll_operator.main`. The only module that imports kopf.

kopf does the login, the liveness probe, the signals and the clean-up; it watches nothing. Its handlers would not retry
their errors, or would need annotations or finalizers on users' objects; it parses, copies and schedules every event,
the operator's own writes included; and where one namespace or the kind is away, its watcher ends the process or serves
nobody. `controller/manager.py` does all the rest.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from atoll_operator.config import ConfigError, Settings, from_environment
from atoll_operator.controller.manager import Manager

logger = logging.getLogger(__name__)


def build_registry(shut_down: Callable[[], Awaitable[None]]) -> kopf.OperatorRegistry:
    """Returns kopf's handlers. `shut_down` is awaited as soon as kopf is to stop."""
    registry = kopf.OperatorRegistry()

    @kopf.on.cleanup(registry=registry)  # type: ignore[untyped-decorator]
    async def clean_up(**_: Any) -> None:
        await shut_down()

    @kopf.on.login(id="log-in", registry=registry)  # type: ignore[untyped-decorator]
    def log_in(**arguments: Any) -> Any:
        # kopf's default uses the client library, which refreshes a pod's token later than this does.
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    return registry


def build_settings(settings: Settings) -> kopf.OperatorSettings:
    """Returns kopf's own settings."""
    own = kopf.OperatorSettings()
    own.networking.request_timeout = settings.request_timeout
    own.networking.connect_timeout = 10
    # The operator creates its Events itself.
    own.posting.enabled = False
    # kopf has nothing to watch, so it need not know which kinds and namespaces there are.
    own.scanning.disabled = True
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
            registry=build_registry(shut_down),
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
