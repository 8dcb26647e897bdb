"""The model manager of a device with a store on disk, and a bucket where one is configured."""

import datetime
import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import Counter

from atoll_contract.errors import Reason
from atoll_contract.release import DeviceReport
from atoll_contract.store import open_store
from atoll_edge.config import EdgeConfig, ModelConfig
from atoll_edge.detector.manager import DetectorKeeper
from atoll_edge.detector.model import Answer, Health, ServedModel
from atoll_edge.models import release_state as device_state
from atoll_edge.models.activation import Supervisor
from atoll_edge.models.bundle import BundleError, served_bundle, unpack
from atoll_edge.models.download import ReleaseFetcher
from atoll_edge.models.poller import Schedule, StoreLoop
from atoll_edge.models.release_state import Refusal
from atoll_edge.models.release_store import DeviceStore
from atoll_edge.models.verify import Expectation
from atoll_edge.prometheus import Metrics
from atoll_edge.robot.match import MatchMonitor
from atoll_edge.status import ModelState, ModelStatus, SyncStatus
from atoll_edge.system import agent_version
from atoll_edge.throughput import Rate, Samples

logger = logging.getLogger(__name__)

# The store is asked so long after a start with a cached model.
CACHED_FIRST_SECONDS = 3.0
# A lost detector is news for so long; later only the count of losses tells of it.
LOSS_NEWS_SECONDS = 600.0


class StoreManager:
    """A Supervisor, and a StoreLoop where a bucket is configured."""

    def __init__(self, config: EdgeConfig, keeper: DetectorKeeper, match: MatchMonitor, metrics: Metrics) -> None:
        self._config = config
        self._keeper = keeper
        self._rate = Rate()
        self._latency = Samples()
        self._started = time.monotonic()
        self.device = DeviceStore(Path(config.state_dir))
        self.device.hold()
        try:
            self.device.collect_garbage()
        except OSError as error:
            logger.warning("old releases cannot be removed: %s", error)
        match_lock = config.model is None or config.model.match_lock
        locked = (lambda: match.now().locked) if match_lock else (lambda: False)
        factory = factory_model(config, self.device.temporary)
        self.supervisor = Supervisor(
            self.device, keeper, locked=locked, factory=factory, counted=functools.partial(_count, metrics.swaps)
        )
        self.loop = self._make_loop(config.model, locked, metrics) if config.model is not None else None

    def _make_loop(self, model: ModelConfig, locked: Callable[[], bool], metrics: Metrics) -> StoreLoop:
        store = open_store(model.store)
        expected = Expectation(model.namespace, model.name, model.verify, functools.partial(public_keys, model))
        fetcher = ReleaseFetcher(store, self.device, expected, model.channel)
        return StoreLoop(
            fetcher,
            Schedule(model.poll_seconds),
            report=lambda: self.report(model),
            report_seconds=model.report_seconds,
            locked=locked,
            counted=functools.partial(_count, metrics.sync),
        )

    def start(self) -> None:
        self.supervisor.start()
        if self.loop is not None:
            self.loop.start(after_seconds=0.0 if self.supervisor.known.current is None else CACHED_FIRST_SECONDS)

    def stop(self) -> None:
        if self.loop is not None:
            self.loop.stop()
        self.supervisor.stop()
        self.device.release_hold()

    @property
    def state(self) -> ModelState:
        working = self.loop.status.working if self.loop is not None else None
        if working is not None and self.supervisor.state is not ModelState.PROBATION:
            return working
        return self.supervisor.state

    @property
    def seconds_since_tick(self) -> float:
        return self.supervisor.seconds_since_tick

    @property
    def actions(self) -> dict[str, Callable[[], str]]:
        changes = {
            "rollback": device_state.rolled_back,
            "pin": device_state.pinned,
            "unpin": device_state.unpinned,
        }
        return {name: functools.partial(self.supervisor.by_hand, change) for name, change in changes.items()}

    def model_status(self) -> ModelStatus:
        serving, known = self.supervisor.serving, self.supervisor.known
        return ModelStatus(
            state=self.state,
            name=serving.name if serving else None,
            digest=serving.digest if serving else None,
            sequence=serving.sequence if serving else None,
            desired_sequence=self.loop.status.desired_sequence if self.loop else None,
            pinned=known.pinned is not None,
            last_refusal=known.last_refusal,
        )

    def sync_status(self) -> SyncStatus:
        if self.loop is None:
            return SyncStatus(free_bytes=self.device.free_bytes())
        status = self.loop.status
        since = None if status.succeeded_at is None else round(time.monotonic() - status.succeeded_at, 1)
        return SyncStatus(
            store=self.loop.store_url,
            last_result=status.last_result,
            seconds_since_success=since,
            free_bytes=self.device.free_bytes(),
        )

    def on_answer(self, answer: Answer) -> None:
        self._rate.tick(time.monotonic())
        self._latency.add(answer.seconds)
        self.supervisor.on_answer(answer)

    def report(self, model: ModelConfig) -> DeviceReport:
        """What the bucket is told of this device."""
        serving, health = self.supervisor.serving, self._keeper.health
        released = serving is not None and serving.sequence > 0
        lost = detector_trouble(health, time.monotonic())
        return DeviceReport(
            namespace=model.namespace,
            model=model.name,
            device=self._config.device_name,
            state=self.state,
            reported_at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            channel=model.channel,
            release=serving.name if serving is not None else None,
            version=serving.sequence if serving is not None and released else None,
            manifest_sha256=serving.digest if serving is not None and released else None,
            desired_version=self.loop.status.desired_sequence if self.loop else None,
            backend=health.backend,
            fps=self._rate.value(time.monotonic()),
            latency_millis=self._latency.quantiles().p50,
            free_bytes=self.device.free_bytes(),
            agent_version=agent_version(),
            error=self.supervisor.known.last_refusal or lost,
        )


def detector_trouble(health: Health, now: float) -> str | None:
    """What a person should know of the detector: that it runs on the CPU for want of its Edge TPU, or was just lost."""
    if health.fallen_back:
        return f"on the CPU: the Edge TPU does not answer ({health.last_loss or health.last_refusal or 'not found'})"
    if health.last_loss_at is not None and now - health.last_loss_at < LOSS_NEWS_SECONDS:
        return f"detector lost: {health.last_loss}"
    return None


def _count(counter: Counter, result: str) -> None:
    counter.labels(result).inc()


def public_keys(model: ModelConfig) -> tuple[bytes, ...]:
    """The PEM files of the settings, read when they are needed: without them nothing new is taken, and what is on the
    card serves.

    Raises:
        Refusal: one cannot be read.
    """
    try:
        return tuple(Path(path).read_bytes() for path in model.public_key_files)
    except OSError as error:
        raise Refusal(
            Reason.SIGNATURE_INVALID, f"a public key of model.publicKeyFiles cannot be read: {error}"
        ) from None


def factory_model(config: EdgeConfig, folder: Path) -> ServedModel | None:
    """The bundle of the image, unpacked where it can be read."""
    if config.factory_bundle is None:
        return None
    try:
        return served_bundle("factory", unpack(Path(config.factory_bundle), folder / "factory"))
    except (BundleError, OSError) as error:
        logger.error("the factory's model cannot be used: %s", error)
        return None
