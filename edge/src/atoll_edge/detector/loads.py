"""A model that the detector was asked to load."""

from concurrent.futures import Future
from dataclasses import dataclass, field

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.model import LoadedModelSpec


class ModelRefused(ValueError):
    """A backend cannot load the model; `missing`: because the device does not answer."""

    def __init__(self, text: str, *, missing: bool) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(eq=False)
class PendingLoad:
    """A requested model that is not loaded yet; `client` is the worker that loads it, `load_id` the load's id there.
    `others` are the backends to try where that one cannot."""

    model: LoadedModelSpec
    others: tuple[Backend, ...] = ()
    future: "Future[Backend]" = field(default_factory=Future)
    client: DetectorClient | None = None
    load_id: int = 0

    def resolve(self, result: Backend | Exception) -> None:
        """Resolves the future, unless its owner has cancelled it."""
        if not self.future.set_running_or_notify_cancel():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)
