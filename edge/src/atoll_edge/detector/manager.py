"""A model that the detector was asked for and that is not loaded yet."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from atoll_contract.release import Detection
from atoll_edge.camera.source import Frame
from atoll_edge.detector.backends import Backend
from atoll_edge.detector.client import Children, DetectorClient, DetectorLost
from atoll_edge.detector.crashes import Losses
from atoll_edge.detector.model import Answer, BackendChoice, Health, ServedModel
from atoll_edge.detector.protocol import Detected, Loaded, Refused


class ModelRefused(ValueError):
    """A backend does not take the model; `missing` where it is the device that does not answer."""

    def __init__(self, text: str, *, missing: bool) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(eq=False)
class Pending:
    """`client` is the child that loads it, `load_id` the number of that load there."""

    model: ServedModel
    future: "Future[Backend]" = field(default_factory=Future)
    client: DetectorClient | None = None
    load_id: int = 0

    def settle(self, result: Backend | Exception) -> None:
        """Answer the one who asked, who may have given up."""
        if not self.future.set_running_or_notify_cancel():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


logger = logging.getLogger(__name__)

LOAD_POLL_SECONDS = 0.05
# Before a model that served and is refused now (its file is gone) is asked for again.
REFUSED_PAUSE_SECONDS = 5.0


class DetectorKeeper:
    """See the module."""

    def __init__(
        self,
        choice: BackendChoice,
        *,
        threads: int,
        spawn: Callable[[Backend], DetectorClient] = DetectorClient,
        probe_allowed: Callable[[], bool] = lambda: True,
        spare: DetectorClient | None = None,
    ) -> None:
        self._choice = choice
        self._threads = threads
        self._children = Children(spawn, spare)
        self._probe_allowed = probe_allowed
        self._losses = Losses(cpu_allowed=choice.cpu_allowed)
        self._lock = threading.Lock()
        self._wanted: Pending | None = None
        self._loading: Pending | None = None
        self._probe: Pending | None = None
        # The child that answers; None where none does.
        self._client: DetectorClient | None = None
        self._active: ServedModel | None = None
        self._active_load = 0
        self._models: dict[int, ServedModel] = {}
        self._resume_at = 0.0
        self.health = Health()

    @property
    def active(self) -> ServedModel | None:
        """The model that answers, or did before its detector was lost."""
        return self._active

    @property
    def answering(self) -> bool:
        """Whether a child has a model loaded now."""
        return self._client is not None

    @property
    def spare_pid(self) -> int | None:
        return self._children.spare_pid

    def request(self, model: ServedModel) -> "Future[Backend]":
        """Serve `model` as soon as it is loaded; the one before answers until then.

        The future gives the backend, or raises ModelRefused or DetectorLost; the model before stays.
        """
        pending = Pending(model)
        with self._lock:
            if self._wanted is not None:
                self._wanted.future.cancel()
            self._wanted = pending
        return pending.future

    def step(self, frame: Frame | None) -> Answer | None:
        """One turn: carry out what was asked, then ask about `frame`. None where no model can answer now."""
        self._restart_if_due()
        self._begin_wanted()
        self._collect_load()
        self._step_probe()
        client = self._client
        if client is None:
            return None
        if self._loading is None:
            self._children.keep_spare(client.backend, time.monotonic())
        if frame is None:
            return None
        try:
            return self._answer(client.detect(frame.picture))
        except DetectorLost as loss:
            self._lost(client.backend, client, loss)
            return None

    def close(self) -> None:
        for pending in (self._loading, self._probe):
            if pending is not None and pending.client is not None:
                pending.client.close()
        if self._client is not None:
            self._client.close()
        self._children.close()
        self._client = self._loading = self._probe = None

    def _answer(self, detected: Detected) -> Answer | None:
        # A model that took over just before this answer has said so in the same socket.
        self._collect_load()
        model = self._models.get(detected.model)
        if model is None or self._client is None:
            return None  # of a load that was abandoned since
        found = tuple(Detection(int(row[0]), row[1], tuple(row[2:6])) for row in detected.rows)
        return Answer(model, self._client.backend, found, detected.non_finite, detected.seconds)

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
        backend = self._choice.choose(pending.model, fallen_back=self._losses.fallen_back)
        if backend is None:
            self._loading = None
            pending.settle(ModelRefused(f"no backend here can run {pending.model.name}", missing=True))
            return
        self._load_on(backend, pending)

    def _load_on(self, backend: Backend, pending: Pending) -> None:
        self._loading = pending
        path = pending.model.path(backend)
        assert path is not None
        try:
            if backend is Backend.EDGETPU and self._client is not None and self._client.backend is backend:
                pending.client = self._client
            else:
                pending.client = self._children.take(backend, time.monotonic())
            pending.load_id = pending.client.begin_load(str(path), threads=self._threads)
        except DetectorLost as loss:
            self._lost(backend, pending.client, loss)

    def _abandon(self, pending: Pending) -> None:
        """End the child of a load that nobody wants any more, unless it serves too."""
        if pending.client is not None and pending.client is not self._client:
            self._children.retire(pending.client)

    def _collect_load(self) -> None:
        pending = self._loading
        if pending is None or pending.client is None:
            return
        # Where nothing answers yet there is no frame to wait for.
        wait = 0.0 if self._client is not None else LOAD_POLL_SECONDS
        try:
            ended = [item for item in pending.client.finished_loads(wait) if item.id == pending.load_id]
        except DetectorLost as loss:
            self._lost(pending.client.backend, pending.client, loss)
            return
        if ended:
            self._finish(ended[0], pending)

    def _finish(self, ended: Loaded | Refused, pending: Pending) -> None:
        self._loading = None
        if isinstance(ended, Loaded):
            assert pending.client is not None
            self._take_over(pending.client, ended.id, pending.model)
            pending.settle(pending.client.backend)
            return
        self._abandon(pending)
        self.health.last_refusal = ended.error
        if ended.missing and self._choice.cpu_allowed and pending.model.cpu_path is not None:
            logger.warning("the Edge TPU does not answer, going on with the CPU: %s", ended.error)
            self._losses.give_up(time.monotonic())
            self._load_on(Backend.CPU, pending)
        else:
            pending.settle(ModelRefused(ended.error, missing=ended.missing))
            self._resume_at = time.monotonic() + REFUSED_PAUSE_SECONDS

    def _take_over(self, client: DetectorClient, load_id: int, model: ServedModel) -> None:
        before = self._client
        # Where both are in one child, the answer that is on its way may still be the model's before.
        kept = {self._active_load: self._active} if before is client and self._active is not None else {}
        self._models = {**kept, load_id: model}
        self._client, self._active, self._active_load = client, model, load_id
        if before is not None and before is not client:
            self._children.retire(before)
        self.health.backend, self.health.pid = client.backend, client.pid
        self.health.fallen_back = self._losses.fallen_back and client.backend is Backend.CPU
        logger.info("model %s serves on %s", model.name, client.backend)

    def _lost(self, backend: Backend, client: DetectorClient | None, loss: DetectorLost) -> None:
        """A child that served, or was loading, is gone."""
        logger.error("the detector (%s) was lost: %s", backend, loss.reason)
        now = time.monotonic()
        self._losses.lost(backend, now)
        self._resume_at = now + self._losses.pause(now)
        self.health.lost(loss.reason, now)
        if client is not None and client is self._client:
            self._client, self._active_load = None, 0
        if self._loading is not None and self._loading.client is client:
            pending, self._loading = self._loading, None
            pending.settle(loss)

    def _restart_if_due(self) -> None:
        """Bring the active model back after a loss."""
        if self._client is not None or self._loading is not None or self._active is None:
            return
        if time.monotonic() >= self._resume_at:
            with self._lock:
                if self._wanted is None:
                    self._wanted = Pending(self._active)

    def _step_probe(self) -> None:
        """On the CPU although the model could run on the Edge TPU, which was lost or came late: try that in a child of
        its own, and move to it if it answers."""
        if self._probe is not None:
            self._collect_probe(self._probe)
            return
        model = self._active
        if model is None or model.edgetpu_path is None or self._loading is not None:
            return
        on_cpu = self._client is not None and self._client.backend is Backend.CPU
        if on_cpu and self._probe_allowed() and self._losses.probe_due(time.monotonic()) and self._choice.worth_a_probe:
            self._begin_probe(model)

    def _begin_probe(self, model: ServedModel) -> None:
        pending = Pending(model)
        try:
            pending.client = self._children.start(Backend.EDGETPU)
            pending.load_id = pending.client.begin_load(str(model.edgetpu_path), threads=self._threads)
        except DetectorLost as loss:
            logger.info("the Edge TPU does not answer yet: %s", loss.reason)
        else:
            self._probe = pending

    def _collect_probe(self, pending: Pending) -> None:
        assert pending.client is not None
        try:
            ended = pending.client.finished_loads()
        except DetectorLost as loss:
            logger.info("the Edge TPU does not answer yet: %s", loss.reason)
            self._probe = None
            return
        if not ended:
            return
        self._probe = None
        # Only for the model that it was tried with, and while no other is on its way.
        if isinstance(ended[0], Refused) or self._loading is not None or self._active is not pending.model:
            self._children.retire(pending.client)
            return
        self._losses.recovered()
        self._take_over(pending.client, ended[0].id, pending.model)
        logger.info("the Edge TPU answers")
