"""Keeps a model loaded in a worker process: loads new ones beside it, restarts lost workers, falls back to the CPU.

`DetectorManager.step` does all of this, called by the detector thread with each frame; `request` may come from any
thread. Where a model runs on the CPU that an accelerator here could run, that one is probed in a separate worker.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from atoll_contract.release import Detection
from atoll_edge.camera.source import Frame
from atoll_edge.detector.backends.base import NAMES, Backend
from atoll_edge.detector.backends.choose import BackendChoice
from atoll_edge.detector.client import DetectorClient, DetectorLost
from atoll_edge.detector.loads import ModelRefused, PendingLoad
from atoll_edge.detector.model import DetectionResult, DetectorHealth, LoadedModelSpec
from atoll_edge.detector.pool import CrashTracker, WorkerPool
from atoll_edge.detector.protocol import Detected, Loaded, Refused
from atoll_edge.detector.tiling import Tiling

logger = logging.getLogger(__name__)

LOAD_POLL_SECONDS = 0.05
# One process holds such an accelerator, and loads the next model beside the active one.
EXCLUSIVE = frozenset({Backend.EDGETPU})
# How long to wait before a model that ran, and is now refused (its file is gone), is loaded again.
REFUSED_PAUSE_SECONDS = 5.0


class DetectorManager:
    """See the module. `probe_allowed` returns whether an accelerator may be probed now; `keep_spare`: whether a process
    waits to replace one that dies."""

    def __init__(
        self,
        choice: BackendChoice,
        *,
        threads: int,
        tiling: Tiling | None = None,
        spawn: Callable[[Backend], DetectorClient] = DetectorClient,
        probe_allowed: Callable[[], bool] = lambda: True,
        spare: DetectorClient | None = None,
        keep_spare: bool = True,
    ) -> None:
        self._choice = choice
        self._threads = threads
        self._tiling = tiling
        self._workers = WorkerPool(spawn, spare, keep_spare=keep_spare)
        self._probe_allowed = probe_allowed
        self._crashes = CrashTracker(may_give_up=choice.is_free)
        # Digests of models with the accelerators that cannot run them: the next model may be another matter.
        self._unfit: frozenset[tuple[str, Backend]] = frozenset()
        self._lock = threading.Lock()
        self._wanted: PendingLoad | None = None
        self._loading: PendingLoad | None = None
        self._probe: PendingLoad | None = None
        # The worker that answers; None where none does.
        self._client: DetectorClient | None = None
        self._active: LoadedModelSpec | None = None
        self._active_load = 0
        self._models: dict[int, LoadedModelSpec] = {}
        self._resume_at = 0.0
        self.health = DetectorHealth()

    @property
    def active(self) -> LoadedModelSpec | None:
        """The model that answers, or did until its worker was lost."""
        return self._active

    @property
    def serving(self) -> bool:
        """Whether a model can answer now."""
        return self._client is not None

    @property
    def spare_pid(self) -> int | None:
        return self._workers.spare_pid

    @property
    def idle_accelerators(self) -> tuple[str, ...]:
        """Sentences on the device's accelerators that do not run the model, and what to do about it."""
        return self._choice.idle(self._active)

    def backend_for(self, model: LoadedModelSpec) -> Backend | None:
        """Returns the backend that would load `model` now; None if none can run it."""
        return next(iter(self._candidates(model)), None)

    def request(self, model: LoadedModelSpec) -> "Future[Backend]":
        """Requests that `model` becomes active once it is loaded; the model before answers until then.

        The future gives the backend, or raises ModelRefused or DetectorLost, after which the model before stays.
        """
        pending = PendingLoad(model)
        with self._lock:
            if self._wanted is not None:
                self._wanted.future.cancel()
            self._wanted = pending
        return pending.future

    def step(self, frame: Frame | None) -> DetectionResult | None:
        """Advances loads, restarts and probes, then returns the result for `frame`; None if no model can answer now."""
        self._restart_if_due()
        self._begin_wanted()
        self._collect_load()
        self._step_probe()
        client = self._client
        if client is None:
            return None
        if self._loading is None:
            self._workers.ensure_spare(client.backend, time.monotonic())
        if frame is None:
            return None
        try:
            return self._result_of(client.detect(frame.image))
        except DetectorLost as loss:
            self._lost(client.backend, client, loss)
            return None

    def close(self) -> None:
        for pending in (self._loading, self._probe):
            if pending is not None and pending.client is not None:
                pending.client.close()
        if self._client is not None:
            self._client.close()
        self._workers.close()
        self._client = self._loading = self._probe = None

    def _result_of(self, detected: Detected) -> DetectionResult | None:
        # The same socket may hold the message of a model that became active just before this answer.
        self._collect_load()
        model = self._models.get(detected.model)
        if model is None or self._client is None:
            return None  # the answer of a load that was abandoned
        found = tuple(Detection(int(row[0]), row[1], tuple(row[2:6])) for row in detected.rows)
        return DetectionResult(model, self._client.backend, found, detected.non_finite, detected.seconds)

    def _begin_wanted(self) -> None:
        with self._lock:
            pending, self._wanted = self._wanted, None
        if pending is None:
            return
        if self._loading is not None:
            self._loading.future.cancel()
            self._abandon(self._loading)
        if self._probe is not None:
            self._abandon(self._probe)
            self._probe = None
        candidates = self._candidates(pending.model)
        if not candidates:
            self._loading = None
            pending.resolve(ModelRefused(f"no backend here can run {pending.model.name}", missing=True))
            return
        pending.others = candidates[1:]
        self._load_on(candidates[0], pending)

    def _candidates(self, model: LoadedModelSpec) -> tuple[Backend, ...]:
        return self._choice.candidates(model, without=self._crashes.given_up | self._unfit_for(model))

    def _unfit_for(self, model: LoadedModelSpec) -> set[Backend]:
        return {backend for digest, backend in self._unfit if digest == model.digest}

    def _load_on(self, backend: Backend, pending: PendingLoad) -> None:
        self._loading = pending
        path = pending.model.path(backend)
        assert path is not None
        try:
            if backend in EXCLUSIVE and self._client is not None and self._client.backend is backend:
                pending.client = self._client
            else:
                pending.client = self._workers.take(backend, time.monotonic())
            pending.load_id = self._begin_load(pending.client, str(path), pending.model)
        except DetectorLost as loss:
            self._lost(backend, pending.client, loss)

    def _begin_load(self, client: DetectorClient, path: str, model: LoadedModelSpec) -> int:
        return client.begin_load(
            path,
            threads=self._threads,
            tiling=self._tiling,
            resize=model.resize,
            side=model.side,
            head=model.head(client.backend),
        )

    def _abandon(self, pending: PendingLoad) -> None:
        """Ends the worker of a load that is no longer wanted, unless it is the active one."""
        if pending.client is not None and pending.client is not self._client:
            self._workers.retire(pending.client)

    def _collect_load(self) -> None:
        pending = self._loading
        if pending is None or pending.client is None:
            return
        # While no model answers, no frame is held up by waiting here.
        wait = 0.0 if self._client is not None else LOAD_POLL_SECONDS
        try:
            ended = [item for item in pending.client.finished_loads(wait) if item.id == pending.load_id]
        except DetectorLost as loss:
            self._lost(pending.client.backend, pending.client, loss)
            return
        if ended:
            self._finish(ended[0], pending)

    def _finish(self, ended: Loaded | Refused, pending: PendingLoad) -> None:
        self._loading = None
        if isinstance(ended, Loaded):
            assert pending.client is not None
            self._take_over(pending.client, ended.id, pending.model)
            pending.resolve(pending.client.backend)
            return
        self._abandon(pending)
        self.health.last_refusal = ended.error
        if pending.others:
            self._go_on(ended, pending)
        else:
            pending.resolve(ModelRefused(ended.error, missing=ended.missing))
            self._resume_at = time.monotonic() + REFUSED_PAUSE_SECONDS

    def _go_on(self, refused: Refused, pending: PendingLoad) -> None:
        """Loads a model on the next backend after one that cannot."""
        assert pending.client is not None
        failed, backend = pending.client.backend, pending.others[0]
        logger.warning("no %s, going on with the %s: %s", NAMES[failed], NAMES[backend], refused.error)
        if refused.missing:
            self._crashes.give_up(failed, time.monotonic())
        else:
            # Replaced, not changed: other threads read it.
            self._unfit |= {(pending.model.digest, failed)}
        pending.others = pending.others[1:]
        self._load_on(backend, pending)

    def _take_over(self, client: DetectorClient, load_id: int, model: LoadedModelSpec) -> None:
        before = self._client
        # Where one worker has both, an answer that is on its way may still be of the model before.
        kept = {self._active_load: self._active} if before is client and self._active is not None else {}
        self._models = {**kept, load_id: model}
        self._client, self._active, self._active_load = client, model, load_id
        if before is not None and before is not client:
            self._workers.retire(before)
        self.health.backend, self.health.pid = client.backend, client.pid
        given_up = (self._crashes.given_up | self._unfit_for(model)) - {client.backend}
        self.health.given_up = tuple(sorted(given_up))
        logger.info("model %s serves on %s", model.name, "; ".join((client.backend, *self.idle_accelerators)))

    def _lost(self, backend: Backend, client: DetectorClient | None, loss: DetectorLost) -> None:
        """Called when an active or loading worker is gone."""
        logger.error("the detector (%s) was lost: %s", backend, loss.reason)
        now = time.monotonic()
        self._crashes.lost(backend, now)
        self._resume_at = now + self._crashes.restart_delay(now)
        self.health.lost(loss.reason, now)
        if client is not None and client is self._client:
            self._client, self._active_load = None, 0
        if self._loading is not None and self._loading.client is client:
            pending, self._loading = self._loading, None
            pending.resolve(loss)

    def _restart_if_due(self) -> None:
        """Loads the active model again after its worker was lost."""
        if self._client is not None or self._loading is not None or self._active is None:
            return
        if time.monotonic() >= self._resume_at:
            with self._lock:
                if self._wanted is None:
                    self._wanted = PendingLoad(self._active)

    def _step_probe(self) -> None:
        """While an accelerator could run the model that the CPU runs, tries it in a separate worker, and switches to it
        if it answers: it may have been lost before, or plugged in late."""
        if self._probe is not None:
            self._collect_probe(self._probe)
            return
        model, client = self._active, self._client
        if model is None or client is None or client.backend in EXCLUSIVE or self._loading is not None:
            return
        if not self._probe_allowed() or not self._crashes.probe_due(time.monotonic()):
            return
        unfit = self._unfit_for(model)
        better = (backend for backend in self._choice.better(model, client.backend) if backend not in unfit)
        if (backend := next(better, None)) is not None:
            self._begin_probe(backend, model)

    def _begin_probe(self, backend: Backend, model: LoadedModelSpec) -> None:
        pending = PendingLoad(model)
        try:
            pending.client = self._workers.start(backend)
            pending.load_id = self._begin_load(pending.client, str(model.path(backend)), model)
        except DetectorLost as loss:
            logger.info("the %s does not answer yet: %s", NAMES[backend], loss.reason)
        else:
            self._probe = pending

    def _collect_probe(self, pending: PendingLoad) -> None:
        assert pending.client is not None
        try:
            ended = pending.client.finished_loads()
        except DetectorLost as loss:
            logger.info("the %s does not answer yet: %s", NAMES[pending.client.backend], loss.reason)
            self._probe = None
            return
        if not ended:
            return
        self._probe = None
        # The probe counts only if its model is still active and no other model is loading.
        if isinstance(ended[0], Refused) or self._loading is not None or self._active is not pending.model:
            self._workers.retire(pending.client)
            return
        self._crashes.recovered(pending.client.backend)
        self._take_over(pending.client, ended[0].id, pending.model)
        logger.info("the %s answers", NAMES[pending.client.backend])
