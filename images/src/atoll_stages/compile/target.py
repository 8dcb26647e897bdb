"""The interface of a compile target: what it is given, and what it returns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atoll_contract.errors import Reason
from atoll_stages.compile.process import Deadline


@dataclass(frozen=True)
class Compilation:
    """The result of a compilation. `path` is set only for a file that was verified to be compiled; the counts of
    operations come from the compiler's own log."""

    reason: Reason
    message: str
    log: str = ""
    path: Path | None = None
    compiler_version: str | None = None
    min_runtime_version: int | None = None
    mapped: int | None = None
    total: int | None = None
    unmapped: tuple[str, ...] = ()

    @property
    def compiled(self) -> bool:
        return self.path is not None

    @property
    def mapped_percent(self) -> float | None:
        if self.mapped is None or not self.total:
            return None
        return round(100.0 * self.mapped / self.total, 1)


class CompileTarget(Protocol):
    """A kind of accelerator. To add one, write a module with such a class and list it in `stage.TARGETS`."""

    @property
    def name(self) -> str:
        """The name under `spec.compile[].target`."""
        ...

    def compile(self, model: Path, work: Path, deadline: Deadline) -> Compilation:
        """Compiles the .tflite file `model`; makes its files in the folder `work`.

        A model that cannot be compiled, and a compiler that is not installed, are results and no errors.

        Raises:
            Interrupted: the stage was asked to end.
        """
        ...
