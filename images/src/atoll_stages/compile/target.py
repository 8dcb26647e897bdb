"""The interface of a compile target: what it is given, and what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atoll_contract.detector_head import DetectorHead
from atoll_contract.errors import Reason
from atoll_stages.compile.process import Deadline
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections


@dataclass(frozen=True)
class FloatNetwork:
    """What a compiler needs that quantises by itself: the float ONNX, how its outputs become boxes (with the labels),
    the calibration list, and the examples of the evaluation split for the chip's simulator."""

    onnx: Path
    head: DetectorHead
    calibration: Path
    examples: Sequence[Example]


@dataclass(frozen=True)
class CompileInput:
    """What a target works on. `model` is the int8 .tflite file; the target makes its files in the folder `work`.

    `network` is None where export left none, or where the target does not ask for it.
    """

    model: Path
    work: Path
    deadline: Deadline
    chip: str | None = None
    network: FloatNetwork | None = None


@dataclass(frozen=True)
class Compilation:
    """The result of a compilation. `path` is set only for a file that was verified to be compiled; the counts of
    operations come from the compiler itself. `detections` are what the compiled file finds in the examples, in the
    chip's simulator; None where there is no simulator."""

    reason: Reason
    message: str
    log: str = ""
    path: Path | None = None
    compiler_version: str | None = None
    min_runtime_version: int | None = None
    mapped: int | None = None
    total: int | None = None
    unmapped: tuple[str, ...] = ()
    detections: tuple[Detections, ...] | None = None

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

    @property
    def chips(self) -> tuple[str, ...]:
        """The chips that `spec.compile[].chip` may name, the default first; none where there is only one."""
        ...

    @property
    def needs_network(self) -> bool:
        """Whether it compiles the float network; else it compiles the int8 file."""
        ...

    @property
    def processor(self) -> str:
        """What the operations run on that are mapped, for messages."""
        ...

    def file_name(self, chip: str | None) -> str:
        """The name of the compiled file in a release."""
        ...

    def compile(self, given: CompileInput) -> Compilation:
        """Compiles the model.

        A model that cannot be compiled, and a compiler that is not installed, are results and no errors.

        Raises:
            Interrupted: the stage was asked to end.
        """
        ...
