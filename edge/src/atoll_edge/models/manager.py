"""The managers that decide which model the detector runs: one fixed file, or the releases of a channel.

`FixedModelManager` loads the file that a user named. `ReleaseManager` owns the device's folder of releases, an
ActivationController, and a ReleasePoller where a bucket is configured.
"""

import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import Counter

from atoll_contract.document import rfc3339
from atoll_contract.errors import Reason
from atoll_contract.release import DeviceReport
from atoll_contract.store import open_store
from atoll_edge.config import EdgeConfig, ModelConfig
from atoll_edge.detector.backends.base import NAMES, Backend
from atoll_edge.detector.backends.hardware import soc_chip
from atoll_edge.detector.model import DetectionResult, Detector, DetectorHealth, LoadedModelSpec
from atoll_edge.models import release_state
from atoll_edge.models.activation import ActivationController
from atoll_edge.models.bundle import BundleError, bundle_spec, unpack
from atoll_edge.models.download import ReleaseDownloader
from atoll_edge.models.poller import PollSchedule, ReleasePoller
from atoll_edge.models.release_state import Refusal
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.rollout_turns import RolloutTurns
from atoll_edge.models.verify import ExpectedRelease
from atoll_edge.prometheus import Metrics
from atoll_edge.robot.topics import MatchMonitor
from atoll_edge.status import ModelState, ModelStatus, SyncStatus
from atoll_edge.system import agent_version
from atoll_edge.throughput import Rate, Samples

logger = logging.getLogger(__name__)

# Delay of the first poll after a start with a cached model.
POLL_DELAY_SECONDS = 3.0
# The report names a lost detector for this long; later only the count of losses shows it.
LOSS_REPORT_SECONDS = 600.0


class ModelManager(Protocol):
    """Runs beside the pipeline; any thread may call any method."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    @property
    def state(self) -> ModelState: ...

    @property
    def seconds_since_tick(self) -> float: ...

    @property
    def actions(self) -> dict[str, Callable[[], str]]:
        """The buttons of the status page, by name; each returns a sentence for the user."""
        ...

    def model_status(self) -> ModelStatus: ...

    def sync_status(self) -> SyncStatus: ...

    def on_result(self, result: DetectionResult) -> None:
        """Called for every result of the detector; must not block."""
        ...

    def report_also(self, problem: Callable[[], str | None]) -> None:
        """Adds a problem of another part of the device to its report, where none of the model goes before it."""
        ...


class FixedModelManager:
    """Loads one model that the user named, and never replaces it."""

    seconds_since_tick = 0.0

    def __init__(self, model: LoadedModelSpec, detector: Detector) -> None:
        self._model = model
        self._detector = detector
        self._load: Future[Backend] | None = None

    @property
    def actions(self) -> dict[str, Callable[[], str]]:
        return {}

    def start(self) -> None:
        self._load = self._detector.request(self._model)

    def stop(self) -> None:
        """Does nothing: no thread runs here."""

    @property
    def state(self) -> ModelState:
        if self._detector.active is not None:
            return ModelState.ACTIVE
        return ModelState.REJECTED if self._refusal() else ModelState.STAGED

    def model_status(self) -> ModelStatus:
        return ModelStatus(
            state=self.state,
            name=self._model.name,
            digest=self._model.digest,
            sequence=self._model.sequence,
            last_refusal=self._refusal(),
        )

    def sync_status(self) -> SyncStatus:
        return SyncStatus()

    def on_result(self, result: DetectionResult) -> None:
        """Does nothing: the model is not on trial."""

    def report_also(self, problem: Callable[[], str | None]) -> None:
        """Does nothing: there is no bucket to report to."""

    def _refusal(self) -> str | None:
        if self._load is None or not self._load.done() or self._load.cancelled():
            return None
        error = self._load.exception()
        return None if error is None else str(error)


class ReleaseManager:
    """Manages the releases of a device. `match` gives the match lock; `metrics` counts swaps and polls."""

    def __init__(self, config: EdgeConfig, detector: Detector, match: MatchMonitor, metrics: Metrics) -> None:
        self._config = config
        self._detector = detector
        self._rate = Rate()
        self._latency = Samples()
        self._other_problem: Callable[[], str | None] = lambda: None
        self.device = ReleaseStore(Path(config.state_dir), chip=soc_chip())
        self.device.lock()
        try:
            self.device.collect_garbage()
        except OSError as error:
            logger.warning("old releases cannot be removed: %s", error)
        match_lock = config.model is None or config.model.match_lock
        locked = (lambda: match.now().locked) if match_lock else (lambda: False)
        factory = factory_model(config, self.device.temporary)
        self.activation = ActivationController(
            self.device,
            detector,
            locked=locked,
            factory=factory,
            on_outcome=functools.partial(_increment, metrics.swaps),
        )
        self.poller = self._make_poller(config.model, locked, metrics) if config.model is not None else None

    def _make_poller(self, model: ModelConfig, locked: Callable[[], bool], metrics: Metrics) -> ReleasePoller:
        expected = ExpectedRelease(model.namespace, model.name, model.verify, functools.partial(public_keys, model))
        store = open_store(model.store, self._on_outage)
        turns = RolloutTurns(store, self._config.device_name, expected)
        return ReleasePoller(
            ReleaseDownloader(store, self.device, expected, model.channel, turns=turns, backend_for=self._backend_for),
            PollSchedule(model.poll_seconds),
            report=lambda: self.report(model),
            report_seconds=model.report_seconds,
            locked=locked,
            on_result=functools.partial(_increment, metrics.sync),
        )

    def _backend_for(self, model: LoadedModelSpec) -> Backend | None:
        return self._detector.backend_for(model)

    def _on_outage(self, text: str | None) -> None:
        if self.poller is not None:
            self.poller.on_outage(text)

    def start(self) -> None:
        self.activation.start()
        if self.poller is not None:
            cached = self.activation.device_state.current is not None
            self.poller.start(after_seconds=POLL_DELAY_SECONDS if cached else 0.0)

    def stop(self) -> None:
        if self.poller is not None:
            self.poller.stop()
        try:
            self.device.change(release_state.end_canary)
        except OSError as error:
            logger.warning("the note of a self-test stays on the card: %s", error)
        self.activation.stop()
        self.device.unlock()

    @property
    def state(self) -> ModelState:
        working = self.poller.status.working if self.poller is not None else None
        if working is not None and self.activation.state is not ModelState.PROBATION:
            return working
        return self.activation.state

    @property
    def seconds_since_tick(self) -> float:
        return self.activation.seconds_since_tick

    @property
    def actions(self) -> dict[str, Callable[[], str]]:
        changes = {"rollback": release_state.roll_back, "pin": release_state.pin, "unpin": release_state.unpin}
        return {name: functools.partial(self.activation.change_by_user, change) for name, change in changes.items()}

    def model_status(self) -> ModelStatus:
        active, device = self.activation.active, self.activation.device_state
        return ModelStatus(
            state=self.state,
            name=active.name if active else None,
            digest=active.digest if active else None,
            sequence=active.sequence if active else None,
            desired_sequence=self.poller.status.desired_sequence if self.poller else None,
            pinned=device.pinned is not None,
            last_refusal=device.last_refusal,
        )

    def sync_status(self) -> SyncStatus:
        if self.poller is None:
            return SyncStatus(free_bytes=self.device.free_bytes())
        status = self.poller.status
        since = None if status.succeeded_at is None else round(time.monotonic() - status.succeeded_at, 1)
        return SyncStatus(
            store=self.poller.store_url,
            last_result=status.last_result,
            seconds_since_success=since,
            free_bytes=self.device.free_bytes(),
        )

    def on_result(self, result: DetectionResult) -> None:
        self._rate.tick(time.monotonic())
        self._latency.add(result.seconds)
        self.activation.on_result(result)

    def report_also(self, problem: Callable[[], str | None]) -> None:
        self._other_problem = problem

    def report(self, model: ModelConfig) -> DeviceReport:
        """Makes the report that the device writes to the bucket."""
        active, health = self.activation.active, self._detector.health
        released = active is not None and active.sequence > 0
        problem = detector_problem(health, time.monotonic())
        return DeviceReport(
            namespace=model.namespace,
            model=model.name,
            device=self._config.device_name,
            state=self.state,
            reported_at=rfc3339(),
            channel=model.channel,
            release=active.name if active is not None else None,
            version=active.sequence if active is not None and released else None,
            manifest_sha256=active.digest if active is not None and released else None,
            desired_version=self.poller.status.desired_sequence if self.poller else None,
            backend=health.backend,
            fps=self._rate.value(time.monotonic()),
            latency_millis=self._latency.quantiles().p50,
            free_bytes=self.device.free_bytes(),
            agent_version=agent_version(),
            error=self.activation.device_state.last_refusal or problem or self._other_problem(),
            **self._rollout_fields(),
        )

    def _rollout_fields(self) -> dict[str, Any]:
        """The report's fields of the version that the channel names, where it waits or failed here."""
        if self.poller is None:
            return {}
        status = self.poller.status
        failed = status.desired_release in self.activation.device_state.bad
        turn = status.turn
        return {
            "failed_version": status.desired_sequence if failed else None,
            "wave": turn.wave if turn else None,
            "rollout": str(turn.turn) if turn else None,
        }


def detector_problem(health: DetectorHealth, now: float) -> str | None:
    """Describes a detector that runs without its accelerator, or was lost a short while ago."""
    if health.given_up and health.backend is not None:
        names = " and ".join(NAMES[backend] for backend in health.given_up)
        why = health.last_loss or health.last_refusal or "not found"
        return f"on the {NAMES[health.backend]}: the {names} does not run the model ({why})"
    if health.last_loss_at is not None and now - health.last_loss_at < LOSS_REPORT_SECONDS:
        return f"detector lost: {health.last_loss}"
    return None


def _increment(counter: Counter, result: str) -> None:
    counter.labels(result).inc()


def public_keys(model: ModelConfig) -> tuple[bytes, ...]:
    """Reads the PEM files of the settings. Called for each release: without them nothing new is accepted, while the
    releases on the card still serve.

    Raises:
        Refusal: one cannot be read.
    """
    try:
        return tuple(Path(path).read_bytes() for path in model.public_key_files)
    except OSError as error:
        raise Refusal(
            Reason.SIGNATURE_INVALID, f"a public key of model.publicKeyFiles cannot be read: {error}"
        ) from None


def factory_model(config: EdgeConfig, folder: Path) -> LoadedModelSpec | None:
    """Unpacks the image's own bundle; returns None if there is none, or if it cannot be used."""
    if config.factory_bundle is None:
        return None
    try:
        return bundle_spec("factory", unpack(Path(config.factory_bundle), folder / "factory"))
    except (BundleError, OSError) as error:
        logger.error("the factory's model cannot be used: %s", error)
        return None
