"""Scripts for the detector worker, frames, and a model whose files are never read by scripted backends."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from atoll_edge.camera.files import draw_scene
from atoll_edge.camera.source import Frame
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.choose import BackendChoice
from atoll_edge.detector.backends.hardware import Accelerator
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.detector.model import LoadedModelSpec
from support.scripted_detector import COMMAND

Script = Callable[..., None]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Sets what the backends do from now on: `script(edgetpu={...}, cpu={...})`."""
    path = tmp_path / "script.json"
    monkeypatch.setenv("EDGE_SCRIPT", str(path))

    def write(**backends: dict[str, Any]) -> None:
        path.write_text(json.dumps(backends))

    write()
    return write


@pytest.fixture
def both(tmp_path: Path) -> LoadedModelSpec:
    """A release with a model for each backend."""
    return LoadedModelSpec("both-v1", "aa", 1, ("a",), (0.5,), tmp_path / "cpu.tflite", tmp_path / "edgetpu.tflite")


@pytest.fixture
def frame() -> Frame:
    return Frame(draw_scene(320, 240, 1), 1, 0)


@pytest.fixture
def make_detector(script: Script) -> Iterator[Callable[..., DetectorManager]]:
    """Makes detectors with scripted workers; `coral` returns whether a Coral is listed, `also` is what else is."""
    made = []

    def make(
        wanted: str = "auto",
        *,
        coral: Callable[[], bool] = lambda: True,
        also: Sequence[Accelerator] = (),
        **options: Any,
    ) -> DetectorManager:
        def found() -> tuple[Accelerator, ...]:
            return (*((Accelerator(Backend.EDGETPU),) if coral() else ()), *also)

        def spawn(backend: Backend) -> DetectorClient:
            return DetectorClient(backend, command=COMMAND)

        detector = DetectorManager(BackendChoice(wanted, found), threads=1, spawn=spawn, **options)
        made.append(detector)
        return detector

    yield make
    for detector in made:
        detector.close()
