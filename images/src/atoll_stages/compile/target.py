"""What every accelerator's compiler is asked, and what it answers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from atoll_contract.reasons import Reason
from atoll_stages.compile.process import Deadline


@dataclass(frozen=True)
class Compilation:
    """How a compilation ended. `path` is there only for a file that was verified to be compiled; the counts of
    operations come from the compiler's own log."""

    reason: Reason
    message: str
    log: str = ""
    path: Path | None = None
    compiler_version: str | None = None
    min_runtime_version: int | None = None
    mapped: int | None = None
    total: int | None = None
    unmapped: tuple[str, ...] = field(default=())
    tries: int = 0

    @property
    def compiled(self) -> bool:
        return self.path is not None

    @property
    def mapped_percent(self) -> float | None:
        if self.mapped is None or not self.total:
            return None
        return round(100.0 * self.mapped / self.total, 1)


class Target(Protocol):
    """A kind of accelerator."""

    @property
    def name(self) -> str: ...

    def compile(self, model: Path, work: Path, deadline: Deadline) -> Compilation:
        """Compile the .tflite file `model`; files are made in the folder `work`.

        A model that cannot be compiled and a compiler that is not there are answers. Raises Interrupted.
        """
        ...
