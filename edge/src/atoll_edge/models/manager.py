"""What decides which model is served. `FixedModel` is the simplest: one file, for as long as the program runs."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from atoll_edge.detector.backends import Backend
from atoll_edge.detector.manager import DetectorKeeper
from atoll_edge.detector.model import Answer, ServedModel
from atoll_edge.status import ModelState, ModelStatus, SyncStatus

logger = logging.getLogger(__name__)


class ModelManager(Protocol):
    """Runs beside the pipeline; every method may be called from any thread."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    @property
    def state(self) -> ModelState: ...

    @property
    def seconds_since_tick(self) -> float: ...

    @property
    def actions(self) -> dict[str, Callable[[], str]]:
        """Buttons of the page."""
        ...

    def model_status(self) -> ModelStatus: ...

    def sync_status(self) -> SyncStatus: ...

    def on_answer(self, answer: Answer) -> None:
        """Called for every answer of the detector; must not block."""
        ...


class FixedModel:
    """Serves one model that the user named on the command line; nothing is fetched, tried or replaced."""

    seconds_since_tick = 0.0

    def __init__(self, model: ServedModel, keeper: DetectorKeeper) -> None:
        self._model = model
        self._keeper = keeper
        self._asked: Future[Backend] | None = None

    @property
    def actions(self) -> dict[str, Callable[[], str]]:
        return {}

    def start(self) -> None:
        self._asked = self._keeper.request(self._model)

    def stop(self) -> None:
        """Nothing runs here."""

    @property
    def state(self) -> ModelState:
        if self._keeper.active is not None:
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

    def on_answer(self, answer: Answer) -> None:
        """Nothing is on probation."""

    def _refusal(self) -> str | None:
        if self._asked is None or not self._asked.done() or self._asked.cancelled():
            return None
        error = self._asked.exception()
        return None if error is None else str(error)
