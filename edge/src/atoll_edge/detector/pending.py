"""A model that the detector was asked for and that is not loaded yet."""

from concurrent.futures import Future
from dataclasses import dataclass, field

from atoll_edge.detector.backend import Backend
from atoll_edge.detector.client import DetectorClient
from atoll_edge.models.served import ServedModel


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
