"""Targets whose compiler quantises the float network by itself, and is a program of its own environment.

The program gets a folder with `job.json`, `float.onnx`, `calibration.npy` and `images.npy` (uint8, images × side ×
side × 3). It leaves the compiled file there and, where the chip has a simulator, `outputs.npz`: what the compiled file
computes for `images.npy`, an array for each name in `outputs` of `job.json`, which are the outputs of the ONNX model.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from atoll_contract import images as preprocess
from atoll_contract.errors import Reason
from atoll_stages.compile.decoding import decode_outputs, output_shapes
from atoll_stages.compile.process import ProgramExit, run_program
from atoll_stages.compile.target import Compilation, CompileInput, FloatNetwork
from atoll_stages.export.target_inputs import read_calibration
from atoll_stages.train.detections import Detections, in_image

TOOLS = Path(__file__).parent / "tools"
# The images that `make images TARGETS=…` builds have their compiler's interpreter here, under the target's name.
IMAGE_COMPILERS = Path("/opt/compilers")
MAX_LAST_LINE = 200


@dataclass(frozen=True)
class NetworkCompiler:
    """A compiler and its chips, the default first, each with what `job.json` says of it.

    `tool` is a file of `tools/`, run by the interpreter that `variable` names, the image's, or this one if it has
    `package`;
    without a tool `variable` names the program itself. `install` says how to get it, `version` finds its version in its
    output, `mapped_row` the operations that it lists: a group `on_chip` takes part in those that run on the chip.
    """

    name: str
    processor: str
    settings: Mapping[str, Mapping[str, Any]]
    compiled: str
    suffix: str
    variable: str
    install: str
    tool: str | None = None
    package: str | None = None
    version: re.Pattern[str] | None = None
    mapped_row: re.Pattern[str] | None = None
    needs_network: bool = field(default=True, init=False)

    @property
    def chips(self) -> tuple[str, ...]:
        return tuple(self.settings)

    def file_name(self, chip: str | None) -> str:
        return f"model-{chip or self.chips[0]}{self.suffix}"

    def compile(self, given: CompileInput) -> Compilation:
        command = self._command()
        if command is None:
            named = os.environ.get(self.variable)
            missing = (
                f"{self.variable} names {named!r}, which is no program" if named else f"{self.variable} is not set"
            )
            return Compilation(
                Reason.COMPILER_UNAVAILABLE, f"no compiler for {self.processor} ({missing}); {self.install}"
            )
        if given.network is None:
            text = "the export stage left no float ONNX, because its environment lacks tf2onnx (atoll[targets])"
            return Compilation(Reason.COMPILER_UNAVAILABLE, text)
        settings = {"chip": given.chip, **self.settings[given.chip or self.chips[0]]}
        _write_job(given.work, given.network, {**settings, "outputs": given.network.head.outputs})
        try:
            finished = run_program([*command, given.work], output=given.work / "output.txt", deadline=given.deadline)
        except OSError as error:
            text = f"{command[0]} cannot be run: {error.strerror}; {self.install}"
            return Compilation(Reason.COMPILER_UNAVAILABLE, text)
        return replace(self._result(given, given.network, finished), log=finished.output)

    def _command(self) -> list[str | Path] | None:
        """The command that the job's folder is added to; None where there is none."""
        named = os.environ.get(self.variable)
        if named:
            program = [named] if Path(named).is_file() else None
        elif self.tool and (IMAGE_COMPILERS / self.name).is_file():
            program = [str(IMAGE_COMPILERS / self.name)]
        elif self.package and importlib.util.find_spec(self.package):
            program = [sys.executable]
        else:
            program = None
        if program is None:
            return None
        return [*program, "-P", TOOLS / self.tool] if self.tool else [*program]

    def _result(self, given: CompileInput, network: FloatNetwork, finished: ProgramExit) -> Compilation:
        version = self.version.search(finished.output) if self.version else None
        base = Compilation(Reason.COMPILE_FAILED, "", compiler_version=version[1] if version else None)
        if problem := _problem(finished):
            return replace(base, message=f"{self.name}: {problem}")
        path = given.work / self.compiled
        if not path.is_file() or not path.stat().st_size:
            return replace(base, message=f"{self.name}: the compiler left no file {self.compiled}")
        mapped, total = self._counts(given.work, finished.output)
        if mapped == 0:
            text = f"the compiler put 0 of {total} operations on {self.processor}"
            return replace(base, reason=Reason.OPS_NOT_MAPPED, message=text, mapped=mapped, total=total)
        try:
            detections = _read_outputs(given.work / "outputs.npz", network)
        except ValueError as error:
            return replace(base, message=f"{self.name}: what its simulator computed cannot be read: {error}")
        text = f"{mapped} of {total} operations on {self.processor}" if total else f"for {self.processor}"
        done = replace(base, reason=Reason.COMPLETED, message=text, path=path, mapped=mapped, total=total)
        return replace(done, detections=detections)

    def _counts(self, work: Path, output: str) -> tuple[int | None, int | None]:
        """How many operations run on the chip, and how many there are: by the tool's own count, else by its table."""
        counted = work / "mapping.json"
        if counted.is_file():
            counts = json.loads(counted.read_bytes())
            return counts["mapped"], counts["total"]
        rows = list(self.mapped_row.finditer(output)) if self.mapped_row else []
        if not rows:
            return None, None
        return sum(row["on_chip"] is not None for row in rows), len(rows)


def _write_job(work: Path, network: FloatNetwork, settings: Mapping[str, Any]) -> None:
    work.mkdir(parents=True, exist_ok=True)
    (work / "job.json").write_text(json.dumps(settings))
    (work / "float.onnx").write_bytes(network.onnx.read_bytes())
    head = network.head
    np.save(work / "calibration.npy", np.stack(list(read_calibration(network.calibration, head.side, head.resize))))
    _save_images(work / "images.npy", network)


def _save_images(path: Path, network: FloatNetwork) -> None:
    """Writes the evaluation split one image after the other: it may be larger than memory."""
    side = network.head.side
    shape = (len(network.examples), side, side, 3)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for number, example in enumerate(network.examples):
        images[number] = preprocess.decode(example.encoded, side, network.head.resize)
    images.flush()


def _problem(finished: ProgramExit) -> str | None:
    if finished.returncode is None:
        return "it did not end in time; raise the profile's deadline, or use fewer pictures for evaluation"
    if finished.returncode < 0:
        return f"it was ended by signal {-finished.returncode}"
    if finished.returncode != 0:
        lines = [line.strip() for line in finished.output.splitlines() if line.strip()]
        return f"exit code {finished.returncode}, last line {(lines or [''])[-1][-MAX_LAST_LINE:]!r}"
    return None


def _read_outputs(path: Path, network: FloatNetwork) -> tuple[Detections, ...] | None:
    """What the compiled file finds in each example, with boxes relative to its image; None where no simulator ran.

    Raises:
        ValueError: the arrays are missing or have other shapes.
    """
    if not path.is_file():
        return None
    head = network.head
    try:
        with np.load(path) as arrays:
            found = [arrays[name] for name in head.outputs]
    except (KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from None
    shapes = [array.shape for array in found]
    wanted = [(len(network.examples), *shape) for shape in output_shapes(head)]
    if shapes != wanted:
        raise ValueError(f"it has arrays {_joined(shapes)}, {_joined(wanted)} are expected")
    return tuple(
        in_image(decode_outputs(outputs, head), example.region(head.side, head.resize))
        for example, *outputs in zip(network.examples, *found, strict=True)
    )


def _joined(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(str(shape) for shape in shapes)
