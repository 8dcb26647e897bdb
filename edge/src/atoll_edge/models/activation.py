"""Brings releases into the detector: loads the current one, tries the candidate, then commits or rolls back.

The state on disk says what is wanted; `ActivationController.tick` moves the detector towards it. A candidate waits
while the match lock holds, and while the current model is not up, so that there is a model to return to.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.client import DetectorLost
from atoll_edge.detector.model import DetectionResult, Detector, LoadedModelSpec
from atoll_edge.models import release_state
from atoll_edge.models.card_reads import ReleaseDamaged
from atoll_edge.models.load_retries import RELOAD_SECONDS, LoadRetries, is_missing
from atoll_edge.models.release_state import DeviceState, StateError
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.trial import Trial, TrialOutcome
from atoll_edge.status import ModelState
from atoll_edge.threads import RepeatingThread

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.2

StateChange = Callable[[DeviceState], DeviceState]


@dataclass
class PendingActivation:
    """A model that was requested from the detector. A candidate is on trial once it is loaded."""

    release: str
    model: LoadedModelSpec
    future: "Future[Backend]"
    is_candidate: bool
    trial: Trial | None = None

    @property
    def error(self) -> BaseException | None:
        """Why a finished load failed; None if it succeeded or was cancelled."""
        return None if self.future.cancelled() else self.future.exception()


class ActivationController:
    """Runs from `start` to `stop` in its own thread; `tick` is one step, with the time passed in.

    `locked` returns whether the match forbids a change; `on_outcome` is called with `committed` or `rolled-back`.
    """

    def __init__(
        self,
        store: ReleaseStore,
        detector: Detector,
        *,
        locked: Callable[[], bool] = lambda: False,
        factory: LoadedModelSpec | None = None,
        on_outcome: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._detector = detector
        self._locked = locked
        self._factory = factory
        self._on_outcome = on_outcome
        self._pending: PendingActivation | None = None
        self._stopping = threading.Event()
        self._thread = RepeatingThread("supervisor", self._tick_now, self._stopping, every_seconds=TICK_SECONDS)
        self._ticked_at = time.monotonic()
        self._rolled_back = False
        self._retries = LoadRetries()
        self._not_before = 0.0
        self.device_state = DeviceState()
        self.state = ModelState.NO_MODEL

    @property
    def seconds_since_tick(self) -> float:
        return time.monotonic() - self._ticked_at

    @property
    def active(self) -> LoadedModelSpec | None:
        """The model that was loaded last and answers."""
        return self._detector.active

    def start(self) -> None:
        """Requests the cached model at once, before anything else starts."""
        self.boot()
        self._tick_now()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(2.0)

    def on_result(self, result: DetectionResult) -> None:
        """Called for every result of the detector."""
        pending = self._pending
        if pending is not None and pending.trial is not None and result.model.digest == pending.release:
            pending.trial.add_result(non_finite=result.non_finite, seconds=result.seconds)

    def boot(self) -> None:
        """Checks the digests of the kept releases; a damaged one gives way to the previous one or the factory's."""
        state = self._change_if_writable(release_state.recover_at_boot)
        for release in (state.current, state.candidate, state.previous):
            if release is None:
                continue
            try:
                self._store.check(release)
            except OSError as error:
                # It may be readable when it is loaded.
                logger.error("release %s cannot be read now: %s", release[:12], error)
            except ReleaseDamaged as error:
                logger.error("release %s: %s", release[:12], error)
                state = self._change_if_writable(functools.partial(release_state.forget_damaged, release=release))
        self.device_state = state

    def tick(self, now: float) -> None:
        """Takes one step towards the state that is wanted."""
        self._ticked_at = time.monotonic()
        self.device_state = state = self._store.read()
        pending = self._pending
        if pending is not None and pending.is_candidate:
            self._watch_candidate(pending, state, now)
        elif state.candidate is not None and self._ready_for_trial(state, now):
            self._try_candidate(state.candidate)
        else:
            self._load_current(state, now)
        self.state = self._model_state(state)

    def change_by_user(self, change: StateChange) -> str:
        """Applies a button of the status page, and returns a sentence for the user."""
        try:
            state = self._change(change)
        except (StateError, OSError) as error:
            return str(error)
        return f"done: current {(state.current or 'none')[:12]}, pinned {(state.pinned or 'no')[:12]}"

    def _tick_now(self) -> None:
        try:
            self.tick(time.monotonic())
        except OSError as error:
            # A full or worn card, or too many open files: the active model stays.
            logger.error("a release or the state cannot be read or written: %s", error)

    def _ready_for_trial(self, state: DeviceState, now: float) -> bool:
        """Waits for the end of the match, and for the current model to be up, so that there is one to return to."""
        if self._locked() or now < self._not_before:
            return False
        return state.current is None or self._detector.active is not None or self._retries.failing

    def _load_current(self, state: DeviceState, now: float) -> None:
        wanted = state.current
        if wanted is None:
            if self._factory is not None and self._pending is None:
                self._request(self._factory.digest, self._factory, is_candidate=False)
        elif self._pending is not None and self._pending.release == wanted:
            self._check_load(self._pending, state, now)
        elif (model := self._checked_spec(wanted)) is not None:
            self._request(wanted, model, is_candidate=False)

    def _check_load(self, pending: PendingActivation, state: DeviceState, now: float) -> None:
        """Retries a current model that cannot be loaded. It gives way to the previous one only if the model itself is
        refused, or kills every worker that loads it."""
        if not pending.future.done():
            return
        error = pending.error
        if error is None:
            self._retries.succeeded()
            return
        if self._retries.failed(error, now):
            logger.error("%s cannot be loaded: %s", pending.model.name, error)
        if self._detector.active is None and state.previous is not None and self._retries.blames_the_model(error):
            reason = f"{pending.model.name} cannot be loaded: {error}"
            self._change(lambda current: release_state.fall_back(current, pending.release, reason))
            self._retries.succeeded()
            self._pending = None
            self._rolled_back = True
        elif self._retries.due(error, now):
            self._pending = None

    def _try_candidate(self, release: str) -> None:
        model = self._checked_spec(release)
        if model is not None:
            # Written before the model runs: if it takes the device down, the next start knows.
            self._change(release_state.begin_activation)
            self._request(release, model, is_candidate=True)

    def _checked_spec(self, release: str) -> LoadedModelSpec | None:
        """Describes a release whose files are whole; forgets a damaged one and returns None."""
        try:
            manifest = self._store.check(release)
        except ReleaseDamaged as error:
            logger.error("release %s: %s", release[:12], error)
            self._change(lambda current: release_state.forget_damaged(current, release))
            return None
        return self._store.model_spec(release, manifest)

    def _request(self, release: str, model: LoadedModelSpec, *, is_candidate: bool) -> None:
        self._pending = PendingActivation(release, model, self._detector.request(model), is_candidate)

    def _watch_candidate(self, pending: PendingActivation, state: DeviceState, now: float) -> None:
        """Follows the candidate while it loads and while it is on trial."""
        if state.candidate != pending.release:
            self._pending = None  # a user pinned or rolled back meanwhile
            return
        if not pending.future.done():
            return
        error, name = pending.error, pending.model.name
        if error is not None and is_missing(error):
            self._postpone(pending, error, now)
            return
        if error is not None:
            self._reject(pending, f"{name} cannot serve: {error}", retry=isinstance(error, DetectorLost))
            return
        losses = self._detector.health.losses
        if pending.trial is None:
            pending.trial = Trial(now, losses)
        outcome = pending.trial.outcome(now, losses=losses)
        if outcome is TrialOutcome.PASSED:
            self._commit(pending)
        elif outcome is not TrialOutcome.RUNNING:
            self._reject(pending, f"{name} failed its probation: {outcome}", retry=outcome is TrialOutcome.LOST)

    def _commit(self, pending: PendingActivation) -> None:
        manifest = self._store.manifest(pending.release)
        model = f"{manifest.namespace}/{manifest.model}"
        release = pending.release
        self._change(lambda current: release_state.commit(current, release, model=model, sequence=manifest.sequence))
        pending.is_candidate = False
        self._rolled_back = False
        self._on_outcome("committed")
        logger.info("%s serves from now on", pending.model.name)

    def _postpone(self, pending: PendingActivation, error: BaseException, now: float) -> None:
        """Tries the candidate later: the accelerator does not answer, which does not count as one of its attempts."""
        logger.error("%s cannot be tried: %s", pending.model.name, error)
        self._change(lambda current: release_state.cancel_activation(current, pending.release))
        self._pending = None
        self._not_before = now + RELOAD_SECONDS

    def _reject(self, pending: PendingActivation, reason: str, *, retry: bool) -> None:
        """Returns to the model before. `retry`: the worker was lost, which may be the device's fault; the model gets
        its second attempt, and none after that."""
        logger.error("%s", reason)
        if retry and self.device_state.attempts < release_state.MAX_ATTEMPTS:
            self._pending = None
            return
        self._change(lambda current: release_state.refuse(current, pending.release, reason))
        self._pending = None
        self._rolled_back = True
        self._on_outcome("rolled-back")

    def _change(self, change: StateChange) -> DeviceState:
        self.device_state = self._store.change(change)
        return self.device_state

    def _change_if_writable(self, change: StateChange) -> DeviceState:
        """Changes the state, only in memory if the card is full or read-only, so that the cached model still loads."""
        try:
            return self._change(change)
        except OSError as error:
            logger.error("the state cannot be written: %s", error)
            return change(self._store.read())

    def _model_state(self, state: DeviceState) -> ModelState:
        if self._pending is not None and self._pending.is_candidate:
            return ModelState.PROBATION
        if self._detector.active is None:
            return ModelState.NO_MODEL
        if state.candidate is not None:
            return ModelState.DEFERRED if self._locked() else ModelState.STAGED
        if self._rolled_back:
            return ModelState.ROLLED_BACK
        return ModelState.ACTIVE if state.last_refusal is None else ModelState.REJECTED
