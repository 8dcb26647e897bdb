"""Stand-ins for the runtimes of accelerators that no test machine has, put where a worker process finds them.

Each has the interface of the real one, with its signatures, returns and errors. `pycoral` and Qualcomm's delegate run
LiteRT on the CPU, so that what is loaded and read is real. `rknnlite` computes the same detector by hand: no simulator
of Rockchip's runs in the edge's set of packages.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.box_distributions import IOU_THRESHOLD, cell_grid
from atoll_contract.detector_head import DetectorHead

PYCORAL = """
from ai_edge_litert.interpreter import Interpreter

def list_edge_tpus():
    return [{"type": "usb", "path": "/sys/bus/usb/devices/2-1"}]

def get_runtime_version():
    return "BuildLabel(COMPILER=6.3.0,DATE=redacted,TIME=redacted), RuntimeVersion(14)"

def make_interpreter(model_path_or_content, device=None, delegate=None):
    return Interpreter(model_path=model_path_or_content)
"""

# A detector with distributions that finds what the colour detector finds: a cell whose mean colour is red (class 0) or
# blue (class 1) holds an object as large as itself.
RKNNLITE = """
import json, os, pathlib
import numpy as np

SCRIPT = json.loads(pathlib.Path(os.environ["RKNN_SCRIPT"]).read_text())
COLOURS = ((255, 0, 0), (0, 0, 255))


class RKNNLite:
    def __init__(self, verbose=False, verbose_file=None):
        self._ready = False

    def load_rknn(self, path):
        return 0 if os.path.getsize(path) else -1

    def init_runtime(self, core_mask=0, async_mode=False, fallback_prior_device="cpu"):
        if SCRIPT.get("raises"):
            raise Exception(SCRIPT["raises"])
        self._ready = not SCRIPT.get("init", 0)
        return SCRIPT.get("init", 0)

    def inference(self, inputs, data_type=None, data_format=None, inputs_pass_through=None, get_frame_id=False):
        assert self._ready and len(inputs) == 1 and data_format == ["nhwc"]
        image = inputs[0]
        if image.ndim != 4 or image.dtype != np.uint8 or SCRIPT.get("silent"):
            return None
        outputs = levels(image[0].astype(np.float32))
        if SCRIPT.get("anchors"):
            # An SSD whose anchors are the cells: each object is as large as its anchor.
            shares = np.concatenate([level[0].reshape(2, -1).T for level in outputs[1::2]])
            codes = np.zeros((1, len(shares), 4), np.float32)
            logits = np.where(shares > 0, 3.0, -9.0).astype(np.float32)
            if SCRIPT.get("nan"):
                logits[0, 0] = np.nan
            return [logits[None], codes]
        if SCRIPT.get("nan"):
            outputs[1][0, 0, 0, 0] = np.nan
        return outputs

    def release(self):
        return 0


def levels(image):
    found = []
    for stride in (8, 16, 32):
        count = len(image) // stride
        cells = image.reshape(count, stride, count, stride, 3).mean((1, 3))
        # Half a stride to each side: between the first two numbers.
        codes = np.zeros((1, 64, count, count), np.float32)
        codes[:, [0, 1, 16, 17, 32, 33, 48, 49]] = 20.0
        scores = [np.abs(cells - colour).max(-1) < 60 for colour in COLOURS]
        found += [codes, np.stack(scores)[None].astype(np.float32) * 0.95]
    return found
"""


def anchor_head(side: int) -> DetectorHead:
    """The document of the stand-in network that has anchors, for the classes red and blue."""
    anchors = tuple(tuple(cell) for cell in cell_grid(side).tolist())
    scales = (10.0, 10.0, 5.0, 5.0)
    return DetectorHead(side, ("red", "blue"), anchors, scales, 10.0, 100, 0.01, IOU_THRESHOLD)


# The C interface of a delegate for LiteRT: this one leaves every operation to LiteRT, and notes what it was asked.
DELEGATE = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
typedef struct Delegate {
  void *data;
  int (*prepare)(void *context, struct Delegate *delegate);
  void *copy_from, *copy_to, *free_buffer;
  int64_t flags;
  void *builder;
} Delegate;
static int prepare(void *context, Delegate *delegate) { (void)context; (void)delegate; return 0; }
Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  if (getenv("QNN_ABSENT")) {
    report(getenv("QNN_ABSENT"));
    return NULL;
  }
  FILE *seen = fopen(getenv("QNN_SEEN"), "a");
  for (size_t i = 0; i < count; ++i) fprintf(seen, "%s=%s\\n", keys[i], values[i]);
  fclose(seen);
  Delegate *delegate = calloc(1, sizeof(Delegate));
  delegate->prepare = prepare;
  return delegate;
}
void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
"""


class StandinRuntimes:
    """The stand-ins in `folder`, and what they do from now on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._patch = monkeypatch
        packages = folder / "packages"
        for name, module, text in (("pycoral/utils", "edgetpu", PYCORAL), ("rknnlite", "api", RKNNLITE)):
            package = packages / name
            package.mkdir(parents=True)
            for made in (package, *package.parents[: len(Path(name).parts) - 1]):
                (made / "__init__.py").write_text("")
            (package / f"{module}.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.setenv("RKNN_SCRIPT", str(folder / "rknn.json"))
        self.rknn()

    def rknn(self, **script: Any) -> None:
        """What the stand-in for Rockchip's runtime does, see RKNNLITE."""
        (self._folder / "rknn.json").write_text(json.dumps(script))

    def qnn(self, *, absent: str | None = None) -> Path:
        """Builds the stand-in for Qualcomm's delegate. Returns the file in which it notes its options."""
        source, library = self._folder / "delegate.c", self._folder / "lib" / "libQnnTFLiteDelegate.so"
        library.parent.mkdir(exist_ok=True)
        source.write_text(DELEGATE)
        command = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(source)]
        subprocess.run(command, check=True, timeout=60)
        self._patch.setenv("LD_LIBRARY_PATH", str(library.parent))
        self._patch.setenv("QNN_SEEN", str(self._folder / "seen.txt"))
        if absent is not None:
            self._patch.setenv("QNN_ABSENT", absent)
        return self._folder / "seen.txt"
