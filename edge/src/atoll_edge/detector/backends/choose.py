"""Which backend runs a model: by the settings, by what the device has, and by the files that the release holds."""

from collections.abc import Callable, Collection, Sequence

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.hardware import Accelerator, found_accelerators
from atoll_edge.detector.model import LoadedModelSpec

AUTO = "auto"


class BackendChoice:
    """Chooses a backend within the setting `wanted`: `auto` prefers an accelerator that is there and installed, and
    does without where there is none. `found` lists what the device has now, the preferred one first."""

    def __init__(self, wanted: str, found: Callable[[], Sequence[Accelerator]] = found_accelerators) -> None:
        self._wanted = wanted
        self._found = found

    @property
    def is_free(self) -> bool:
        """Whether another backend may take the place of one that does not work."""
        return self._wanted == AUTO

    @property
    def first(self) -> Backend:
        """The backend that would run a model with a file for each."""
        return self._usable()[0] if self.is_free else Backend(self._wanted)

    def candidates(self, model: LoadedModelSpec, *, without: Collection[Backend] = ()) -> tuple[Backend, ...]:
        """Returns the backends that may run `model`, the preferred one first, and not those in `without`."""
        if not self.is_free:
            wanted = Backend(self._wanted)
            return (wanted,) if model.path(wanted) is not None else ()
        usable = [backend for backend in self._usable() if model.path(backend) is not None]
        allowed = [backend for backend in usable if backend not in without]
        # A model without a file for the CPU is tried on its own chip, listed or not.
        compiled = (backend for backend in (Backend.EDGETPU, Backend.RKNN) if model.path(backend) is not None)
        return tuple(allowed or usable or compiled)

    def better(self, model: LoadedModelSpec, running: Backend) -> tuple[Backend, ...]:
        """Returns the backends that go before the one that runs `model`."""
        candidates = self.candidates(model) if self.is_free else ()
        return candidates[: candidates.index(running)] if running in candidates else ()

    def idle(self, model: LoadedModelSpec | None) -> tuple[str, ...]:
        """Says of each accelerator here that cannot be used, or has no file in the release, what to do."""
        if not self.is_free:
            return ()
        texts = ((item, _reason(item, model)) for item in self._found())
        return tuple(f"the {item.name} is idle: {text}" for item, text in texts if text)

    def _usable(self) -> list[Backend]:
        return [*(item.backend for item in self._found() if item.missing is None), Backend.CPU]


def _reason(item: Accelerator, model: LoadedModelSpec | None) -> str | None:
    if item.missing is not None:
        return item.missing
    if model is None or model.path(item.backend) is not None:
        return None
    chip = f", chip: {item.chip}" if item.chip else ""
    return f"{model.name} holds no file for it; train with compile: [{{target: {item.backend}{chip}}}]"
