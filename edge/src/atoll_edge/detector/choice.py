"""Which backend runs a model."""

from collections.abc import Callable

from atoll_edge.detector.backend import Backend
from atoll_edge.models.served import ServedModel


class BackendChoice:
    """What the configuration allows: `auto` prefers an Edge TPU that is there, and goes on without."""

    def __init__(self, wanted: str, coral_present: Callable[[], bool]) -> None:
        self._wanted = wanted
        self._coral_present = coral_present

    @property
    def cpu_allowed(self) -> bool:
        return self._wanted != Backend.EDGETPU

    @property
    def first(self) -> Backend:
        """What will run a model that has a file for each."""
        if self._wanted == Backend.EDGETPU or self.worth_a_probe:
            return Backend.EDGETPU
        return Backend.CPU

    @property
    def worth_a_probe(self) -> bool:
        """Whether an Edge TPU is listed that may be used; one that was plugged in late is one too."""
        return self._wanted == "auto" and self._coral_present()

    def choose(self, model: ServedModel, *, fallen_back: bool) -> Backend | None:
        """The backend for `model`; None where there is none that could run it."""
        edgetpu = self._wanted in ("auto", Backend.EDGETPU) and model.edgetpu_path is not None
        forced = self._wanted == Backend.EDGETPU
        if edgetpu and (forced or (not fallen_back and self._coral_present())):
            return Backend.EDGETPU
        if self.cpu_allowed and model.cpu_path is not None:
            return Backend.CPU
        return Backend.EDGETPU if edgetpu else None
