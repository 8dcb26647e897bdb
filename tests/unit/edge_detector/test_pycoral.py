"""The Edge TPU backend against pycoral's own interface, with stand-ins for what no package registry has.

`pycoral` is scripted (its three functions, with their signatures, returns and errors as pycoral 2.0.3 has them); its
interpreter is LiteRT's own on a real model, so what is loaded, refused and read is real. libedgetpu is a library that
is compiled here from its two plugin functions and finds no device, loaded by the same `load_delegate`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.protocol import Loaded, Refused
from support.edge_model import colour_detector
from support.edge_release import GOLDEN_BOXES, golden_image
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)

EDGETPU_MODULE = """
from ai_edge_litert.interpreter import Interpreter, load_delegate
import json, os

SCRIPT = json.load(open(os.environ["PYCORAL_SCRIPT"]))

def list_edge_tpus():
    return SCRIPT["listed"]

def get_runtime_version():
    return "BuildLabel(COMPILER=6.3.0,DATE=redacted,TIME=redacted), RuntimeVersion(14)"

def make_interpreter(model_path_or_content, device=None, delegate=None):
    open(os.environ["PYCORAL_SCRIPT"] + ".device", "w").write(str(device))
    if SCRIPT.get("library"):
        return Interpreter(model_path=model_path_or_content, experimental_delegates=[load_delegate(SCRIPT["library"])])
    if not SCRIPT["listed"]:
        raise ValueError("")
    return Interpreter(model_path=model_path_or_content)
"""

# The C interface that libedgetpu.so.1 has for TFLite: where no device answers it gives none.
LIBRARY = """
#include <stddef.h>
void *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  (void)keys; (void)values; (void)count; (void)report;
  return NULL;
}
void tflite_plugin_destroy_delegate(void *delegate) { (void)delegate; }
"""

ONE = {"type": "usb", "path": "/sys/bus/usb/devices/2-1"}


@pytest.fixture
def pycoral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the stand-in where the worker finds it; `script.json` says what it does."""
    package = tmp_path / "packages" / "pycoral" / "utils"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("")
    (package / "edgetpu.py").write_text(EDGETPU_MODULE)
    path = os.pathsep.join([str(tmp_path / "packages"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    script = tmp_path / "script.json"
    monkeypatch.setenv("PYCORAL_SCRIPT", str(script))
    script.write_text(json.dumps({"listed": [ONE]}))
    return script


def load(model: bytes, folder: Path, *, accelerator: int | None = None) -> tuple[DetectorClient, Loaded | Refused]:
    (folder / "model.tflite").write_bytes(model)
    client = DetectorClient(Backend.EDGETPU, accelerator=accelerator)
    client.begin_load(str(folder / "model.tflite"), threads=1)
    [ended] = wait_until(lambda: client.finished_loads(0.1), what="the load", timeout_seconds=120)
    return client, ended


def test_a_model_on_the_edge_tpu_finds_what_was_drawn(pycoral: Path, tmp_path: Path) -> None:
    client, ended = load(colour_detector(), tmp_path)
    try:
        assert isinstance(ended, Loaded)
        image = cv2.imdecode(np.frombuffer(golden_image(), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        rows = sorted(client.detect(image, timeout_seconds=60).rows)
    finally:
        client.close()
    assert [int(row[0]) for row in rows] == [class_id for class_id, _ in GOLDEN_BOXES]
    for row, (_, box) in zip(rows, GOLDEN_BOXES, strict=True):
        assert row[2:6] == pytest.approx(box, abs=0.01)


@pytest.mark.parametrize(("accelerator", "device"), [(None, "None"), (1, ":1")])
def test_each_of_several_detectors_opens_its_own_device(
    pycoral: Path, tmp_path: Path, accelerator: int | None, device: str
) -> None:
    client, ended = load(colour_detector(), tmp_path, accelerator=accelerator)
    client.close()
    assert isinstance(ended, Loaded)
    assert Path(f"{pycoral}.device").read_text() == device


def test_no_device_is_said_as_missing(pycoral: Path, tmp_path: Path) -> None:
    """pycoral says `ValueError('')`, and nothing more."""
    pycoral.write_text(json.dumps({"listed": []}))
    client, ended = load(colour_detector(), tmp_path)
    client.close()
    assert isinstance(ended, Refused)
    assert ended.missing
    assert ended.error == "no Edge TPU answers (0 listed): load_delegate failed"


def test_a_model_that_the_device_cannot_run_is_the_models_fault(pycoral: Path, tmp_path: Path) -> None:
    client, ended = load(b"no model", tmp_path)
    client.close()
    assert isinstance(ended, Refused)
    assert not ended.missing
    assert "the Edge TPU cannot load model.tflite" in ended.error


@pytest.mark.skipif(shutil.which("cc") is None, reason="NOT RUN: no C compiler here")
def test_a_libedgetpu_without_a_device_is_said_as_missing(pycoral: Path, tmp_path: Path) -> None:
    """The library loads and gives no delegate: what libedgetpu does where the Coral does not answer."""
    (tmp_path / "stub.c").write_text(LIBRARY)
    library = tmp_path / "libedgetpu.so.1"
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(tmp_path / "stub.c")]
    subprocess.run(command, check=True, timeout=60)
    pycoral.write_text(json.dumps({"listed": [ONE], "library": str(library)}))
    client, ended = load(colour_detector(), tmp_path)
    client.close()
    assert isinstance(ended, Refused)
    assert ended.missing
    assert "no Edge TPU answers (1 listed)" in ended.error


def test_a_library_that_is_not_there_is_said_as_missing(pycoral: Path, tmp_path: Path) -> None:
    pycoral.write_text(json.dumps({"listed": [], "library": str(tmp_path / "libedgetpu.so.1")}))
    client, ended = load(colour_detector(), tmp_path)
    client.close()
    assert isinstance(ended, Refused)
    assert ended.missing
    assert "libedgetpu.so.1" in ended.error


def test_without_pycoral_the_backend_is_not_installed(tmp_path: Path) -> None:
    client, ended = load(colour_detector(), tmp_path)
    client.close()
    assert isinstance(ended, Refused)
    assert ended.missing
    assert "the backend edgetpu is not installed here" in ended.error


def test_pycoral_is_imported_by_the_edge_tpus_child_alone() -> None:
    program = (
        "import sys, atoll_edge.agent, atoll_edge.detector.backends.base\n"
        "assert not [m for m in sys.modules if 'coral' in m]"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=120)
