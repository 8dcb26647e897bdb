"""Keeps one detector child running with the model that is wanted: starts, swaps, restarts, falls back.

`step` is called by the detector thread alone; `request` and the snapshot may come from any thread.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from atoll_contract.manifest import Detection
from atoll_edge.detector.answer import Answer, Health
from atoll_edge.detector.backend import Backend
from atoll_edge.detector.choice import BackendChoice
from atoll_edge.detector.client import DetectorClient, DetectorLost
from atoll_edge.detector.losses import Losses
from atoll_edge.detector.messages import Detected, Loaded, Refused
from atoll_edge.frames.frame import Frame
from atoll_edge.models.served import ServedModel

logger = logging.getLogger(__name__)

LOAD_POLL_SECONDS = 0.05
# Before a model that served and is refused now (its file is gone) is asked for again.
REFUSED_PAUSE_SECONDS = 5.0


@dataclass
class _Pending:
    model: ServedModel
    future: "Future[Backend]"
    load_id: int = 0


class DetectorKeeper:
    """See the module."""

    def __init__(
        self,
        choice: BackendChoice,
        *,
        threads: int,
        spawn: Callable[[Backend], DetectorClient] = DetectorClient,
        probe_allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._choice = choice
        self._threads = threads
        self._spawn = spawn
        self._probe_allowed = probe_allowed
        self._losses = Losses(cpu_allowed=choice.cpu_allowed)
        self._lock = threading.Lock()
        self._wanted: _Pending | None = None
        self._loading: _Pending | None = None
        self._client: DetectorClient | None = None
        self._probe: DetectorClient | None = None
        self._active: ServedModel | None = None
        self._active_load = 0
        self._models: dict[int, ServedModel] = {}
        self._resume_at = 0.0
        self.health = Health()

    @property
    def active(self) -> ServedModel | None:
        """The model that answers now."""
        return self._active

    def request(self, model: ServedModel) -> "Future[Backend]":
        """Serve `model` as soon as it is loaded; the one before answers until then.

        The future gives the backend, or raises ValueError with the refusal or DetectorLost; the model before stays.
        """
        pending = _Pending(model, Future())
        with self._lock:
            if self._wanted is not None:
                self._wanted.future.cancel()
            self._wanted = pending
        return pending.future

    def step(self, frame: Frame | None) -> Answer | None:
        """One turn: carry out what was asked, then ask about `frame`. None where no model can answer now."""
        try:
            self._begin_wanted()
            self._collect_loads()
            self._step_probe()
            if frame is None or self._client is None or self._active_load == 0:
                self._restart_if_due()
                return None
            return self._answer(self._client.detect(frame.picture))
        except DetectorLost as loss:
            self._lost(loss)
            return None

    def close(self) -> None:
        for client in (self._client, self._probe):
            if client is not None:
                client.close()
        self._client = self._probe = None

    def _answer(self, detected: Detected) -> Answer:
        # A model that took over just before this answer has said so in the same socket.
        self._collect_loads()
        assert self._client is not None
        model = self._models[detected.model]
        found = tuple(Detection(int(row[0]), row[1], tuple(row[2:6])) for row in detected.rows)
        return Answer(model, self._client.backend, found, detected.non_finite, detected.seconds)

    def _begin_wanted(self) -> None:
        with self._lock:
            pending, self._wanted = self._wanted, None
        if pending is None:
            return
        if self._loading is not None:
            self._loading.future.cancel()
        backend = self._choice.choose(pending.model, fallen_back=self._losses.fallen_back)
        if backend is None:
            pending.future.set_exception(ValueError(f"no backend here can run {pending.model.name}"))
            return
        self._loading = pending
        self._load_on(backend, pending)

    def _load_on(self, backend: Backend, pending: _Pending) -> None:
        path = pending.model.path(backend)
        assert path is not None
        if self._client is None or self._client.backend is not backend:
            self._start(backend)
        assert self._client is not None
        pending.load_id = self._client.begin_load(str(path), threads=self._threads)

    def _start(self, backend: Backend) -> None:
        if self._client is not None:
            self._client.close()
        self._client = self._spawn(backend)
        self._active_load = 0
        self.health.pid = self._client.pid

    def _collect_loads(self) -> None:
        if self._client is None or self._loading is None:
            return
        # Where nothing answers yet there is no frame to wait for.
        wait = 0.0 if self._active_load else LOAD_POLL_SECONDS
        for ended in self._client.finished_loads(wait):
            if self._loading is not None and ended.id == self._loading.load_id:
                self._finish(ended, self._loading)

    def _finish(self, ended: Loaded | Refused, pending: _Pending) -> None:
        assert self._client is not None
        self._loading = None
        if isinstance(ended, Loaded):
            # The answer that is on its way may still be the model's before.
            before = {self._active_load: self._active} if self._active_load and self._active else {}
            self._models = {**before, ended.id: pending.model}
            self._active, self._active_load = pending.model, ended.id
            self.health.backend = self._client.backend
            logger.info("model %s serves on %s", pending.model.name, self._client.backend)
            _settle(pending.future, result=self._client.backend)
        elif ended.missing and self._choice.cpu_allowed and pending.model.cpu_path is not None:
            logger.warning("the Edge TPU does not answer, going on with the CPU: %s", ended.error)
            self._losses.give_up(time.monotonic())
            self._loading = pending
            self._load_on(Backend.CPU, pending)
        else:
            self.health.last_refusal = ended.error
            _settle(pending.future, error=ValueError(ended.error))
            self._resume_at = time.monotonic() + REFUSED_PAUSE_SECONDS

    def _lost(self, loss: DetectorLost) -> None:
        backend = self._client.backend if self._client is not None else Backend.CPU
        logger.error("the detector (%s) was lost: %s", backend, loss.reason)
        now = time.monotonic()
        self._losses.lost(backend, now)
        self._resume_at = now + self._losses.pause(now)
        self.health.losses += 1
        self.health.last_loss = loss.reason
        self.health.reasons[loss.reason] = self.health.reasons.get(loss.reason, 0) + 1
        self._client, self._active_load = None, 0
        if self._loading is not None:
            pending, self._loading = self._loading, None
            _settle(pending.future, error=loss)

    def _restart_if_due(self) -> None:
        """Bring the active model back after a loss."""
        if self._loading is not None or self._active is None or self._active_load:
            return
        if time.monotonic() >= self._resume_at:
            with self._lock:
                if self._wanted is None:
                    self._wanted = _Pending(self._active, Future())

    def _step_probe(self) -> None:
        """On the CPU because the Edge TPU was lost: try that in a child of its own, and move to it if it answers."""
        if self._probe is not None:
            try:
                ended = self._probe.finished_loads()
            except DetectorLost:
                self._probe = None
                return
            if ended:
                self._finish_probe(ended[0])
        elif (
            self._active is not None
            and self._active.edgetpu_path is not None
            and self._losses.fallen_back
            and self._probe_allowed()
            and self._losses.probe_due(time.monotonic())
        ):
            self._probe = self._spawn(Backend.EDGETPU)
            self._probe.begin_load(str(self._active.edgetpu_path), threads=self._threads)

    def _finish_probe(self, ended: Loaded | Refused) -> None:
        assert self._probe is not None
        probe, self._probe = self._probe, None
        if isinstance(ended, Refused) or self._loading is not None or self._active is None:
            probe.close()
            return
        if self._client is not None:
            self._client.close()
        self._client, self._active_load = probe, ended.id
        self._models = {ended.id: self._active}
        self._losses.recovered()
        self.health.backend, self.health.pid = probe.backend, probe.pid
        logger.info("the Edge TPU answers again")


def _settle(future: "Future[Backend]", *, result: Backend | None = None, error: Exception | None = None) -> None:
    """Answer a future that its asker may have given up."""
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    elif result is not None:
        future.set_result(result)
