"""What the supervisor asked the detector for."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from atoll_edge.detector.backends import Backend
from atoll_edge.detector.client import DetectorLost
from atoll_edge.detector.manager import DetectorKeeper
from atoll_edge.detector.model import Answer, ServedModel
from atoll_edge.models import release_state as device_state
from atoll_edge.models.release_state import DeviceState, StateError
from atoll_edge.models.release_store import DeviceStore, ReleaseDamaged
from atoll_edge.models.trial import RELOAD_SECONDS, Outcome, Probation, Reloads, is_missing
from atoll_edge.status import ModelState
from atoll_edge.threads import SteadyThread


@dataclass
class Asked:
    """A model that the detector was asked for; `trial` where it is the candidate."""

    release: str
    model: ServedModel
    future: "Future[Backend]"
    trial: bool
    probation: Probation | None = None


logger = logging.getLogger(__name__)

TICK_SECONDS = 0.2


class Supervisor:
    """Runs from `start` to `stop` in a thread of its own; `tick` is its one step, with the time passed in."""

    def __init__(
        self,
        store: DeviceStore,
        keeper: DetectorKeeper,
        *,
        locked: Callable[[], bool] = lambda: False,
        factory: ServedModel | None = None,
        counted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._locked = locked
        self._factory = factory
        self._counted = counted
        self._asked: Asked | None = None
        self._stopping = threading.Event()
        self._thread = SteadyThread("supervisor", self._turn, self._stopping, every_seconds=TICK_SECONDS)
        self._ticked_at = time.monotonic()
        self._rolled_back = False
        self._reloads = Reloads()
        self._not_before = 0.0
        self.known = DeviceState()
        self.state = ModelState.NO_MODEL

    @property
    def seconds_since_tick(self) -> float:
        return time.monotonic() - self._ticked_at

    @property
    def serving(self) -> ServedModel | None:
        """The model that was loaded last and answers."""
        return self._keeper.active

    def start(self) -> None:
        """Bring the cached model up, before anything else."""
        self.boot()
        self._turn()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(2.0)

    def on_answer(self, answer: Answer) -> None:
        asked = self._asked
        if asked is not None and asked.probation is not None and answer.model.digest == asked.release:
            asked.probation.answered(non_finite=answer.non_finite, seconds=answer.seconds)

    def _turn(self) -> None:
        try:
            self.tick(time.monotonic())
        except OSError as error:
            # A full or worn card: what serves goes on serving.
            logger.error("the state cannot be written: %s", error)

    def boot(self) -> None:
        """Re-hash what shall serve; what is damaged gives way to the release before, or the factory's."""
        state = self._change_if_possible(device_state.at_boot)
        for release in (state.current, state.candidate, state.previous):
            if release is None:
                continue
            try:
                self._store.check(release)
            except ReleaseDamaged as error:
                logger.error("release %s: %s", release[:12], error)
                state = self._change_if_possible(functools.partial(device_state.damaged, release=release))
        self.known = state

    def _change_if_possible(self, change: Callable[[DeviceState], DeviceState]) -> DeviceState:
        """At boot a full or read-only card must not keep the cached model from serving."""
        try:
            return self._change(change)
        except OSError as error:
            logger.error("the state cannot be written: %s", error)
            return change(self._store.read())

    def tick(self, now: float) -> None:
        """One step towards what the state wants."""
        self._ticked_at = time.monotonic()
        self.known = state = self._store.read()
        asked = self._asked
        if asked is not None and asked.trial:
            self._watch(asked, state, now)
        elif state.candidate is not None and self._ready_for_trial(state, now):
            self._try(state.candidate)
        else:
            self._serve_current(state, now)
        self._settle_state(state)

    def _ready_for_trial(self, state: DeviceState, now: float) -> bool:
        """Wait for the match to end, and for the model before to be up, so that there is one to go back to."""
        if self._locked() or now < self._not_before:
            return False
        return state.current is None or self._keeper.active is not None or self._reloads.failing

    def _serve_current(self, state: DeviceState, now: float) -> None:
        wanted = state.current
        if wanted is None:
            if self._factory is not None and self._asked is None:
                self._ask(self._factory.digest, self._factory, trial=False)
            return
        if self._asked is not None and self._asked.release == wanted:
            self._check_refused(self._asked, state, now)
            return
        try:
            manifest = self._store.check(wanted)
        except ReleaseDamaged as error:
            logger.error("release %s: %s", wanted[:12], error)
            self._change(lambda now: device_state.damaged(now, wanted))
            return
        self._ask(wanted, self._store.served(wanted, manifest), trial=False)

    def _check_refused(self, asked: Asked, state: DeviceState, now: float) -> None:
        """A model that served before and cannot be loaded now is asked for again; it gives way to the one before it
        only where the model itself is refused, or kills every detector that loads it."""
        if not asked.future.done():
            return
        error = None if asked.future.cancelled() else asked.future.exception()
        if error is None:
            self._reloads.ended_well()
            return
        if self._reloads.failed(error, now):
            logger.error("%s cannot be loaded: %s", asked.model.name, error)
        if self._keeper.active is None and state.previous is not None and self._reloads.blames_the_model(error):
            reason = f"{asked.model.name} cannot be loaded: {error}"
            self._change(lambda now: device_state.given_up(now, asked.release, reason))
            self._reloads.ended_well()
            self._asked = None
            self._rolled_back = True
        elif self._reloads.due(error, now):
            self._asked = None

    def _try(self, release: str) -> None:
        try:
            manifest = self._store.check(release)
        except ReleaseDamaged as error:
            logger.error("release %s: %s", release[:12], error)
            self._change(lambda now: device_state.damaged(now, release))
            return
        # On disk before the model runs: if it takes the device down, the next start knows.
        self._change(device_state.activating)
        self._ask(release, self._store.served(release, manifest), trial=True)

    def _ask(self, release: str, model: ServedModel, *, trial: bool) -> None:
        self._asked = Asked(release, model, self._keeper.request(model), trial)

    def _watch(self, asked: Asked, state: DeviceState, now: float) -> None:
        """The candidate is loading or on probation."""
        if state.candidate != asked.release:
            self._asked = None  # somebody pinned or rolled back by hand
            return
        if not asked.future.done():
            return
        error = None if asked.future.cancelled() else asked.future.exception()
        if error is not None and is_missing(error):
            self._postpone(asked, error, now)
            return
        if error is not None:
            self._reject(asked, f"{asked.model.name} cannot serve: {error}", again=isinstance(error, DetectorLost))
            return
        losses = self._keeper.health.losses
        if asked.probation is None:
            asked.probation = Probation(now, losses)
        outcome = asked.probation.outcome(now, losses=losses)
        if outcome is Outcome.PASSED:
            self._commit(asked)
        elif outcome is not Outcome.RUNNING:
            self._reject(asked, f"{asked.model.name} failed its probation: {outcome}", again=outcome is Outcome.LOST)

    def _commit(self, asked: Asked) -> None:
        manifest = self._store.manifest(asked.release)
        model = f"{manifest.namespace}/{manifest.model}"
        release = asked.release
        self._change(lambda now: device_state.committed(now, release, model=model, sequence=manifest.sequence))
        asked.trial = False
        self._rolled_back = False
        self._counted("committed")
        logger.info("%s serves from now on", asked.model.name)

    def _postpone(self, asked: Asked, error: BaseException, now: float) -> None:
        """It is the device that does not answer: nothing was learnt of the model, and it keeps its attempts."""
        logger.error("%s cannot be tried: %s", asked.model.name, error)
        self._change(lambda now: device_state.untried(now, asked.release))
        self._asked = None
        self._not_before = now + RELOAD_SECONDS

    def _reject(self, asked: Asked, reason: str, *, again: bool) -> None:
        """Back to the model before. `again`: a device that glitched is no proof against the model; it gets its
        second attempt, and none after that."""
        logger.error("%s", reason)
        if again and self.known.attempts < device_state.MAX_ATTEMPTS:
            self._asked = None
            return
        self._change(lambda now: device_state.refused(now, asked.release, reason))
        self._asked = None
        self._rolled_back = True
        self._counted("rolled-back")

    def _change(self, change: Callable[[DeviceState], DeviceState]) -> DeviceState:
        self.known = self._store.change(change)
        return self.known

    def by_hand(self, change: Callable[[DeviceState], DeviceState]) -> str:
        """A button of the page; the answer is for the person."""
        try:
            state = self._change(change)
        except (StateError, OSError) as error:
            return str(error)
        return f"done: current {(state.current or 'none')[:12]}, pinned {(state.pinned or 'no')[:12]}"

    def _settle_state(self, state: DeviceState) -> None:
        """The one word for all this."""
        asked = self._asked
        if asked is not None and asked.trial:
            self.state = ModelState.PROBATION
        elif self._keeper.active is None:
            self.state = ModelState.NO_MODEL
        elif state.candidate is not None:
            self.state = ModelState.DEFERRED if self._locked() else ModelState.STAGED
        elif self._rolled_back:
            self.state = ModelState.ROLLED_BACK
        elif state.last_refusal is not None:
            self.state = ModelState.REJECTED
        else:
            self.state = ModelState.ACTIVE
