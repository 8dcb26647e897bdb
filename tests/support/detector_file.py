"""An int8 file of a real architecture with random weights, made with TensorFlow: for measurements of speed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

CLASSES = ("note", "robot")
KEPT = 25


def detector_file(architecture: str = "ssd-mobilenet-v2-fpnlite-320", width: float = 1.0) -> Path:
    """The exported file, as the export stage makes it; kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "atoll-test"
    text = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    path = cache / f"detector-{text}-{architecture}-{width:g}.tflite"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, str(path), architecture, str(width)]
        subprocess.run(command, check=True, capture_output=True, timeout=1200)
    return path


def make(architecture: str, width: float) -> bytes:
    import keras
    import numpy as np

    from atoll_contract.train_spec import Architecture
    from atoll_stages.export.head_files import files_of
    from atoll_stages.train.detector import build_detector

    keras.utils.set_random_seed(0)
    kind = Architecture(architecture)
    model = build_detector(architecture=kind, width=width, classes=len(CLASSES), side=kind.side)
    images = np.random.default_rng(0).integers(0, 255, (4, kind.side, kind.side, 3), np.uint8)
    files = files_of(kind, max_detections=KEPT)
    return files.int8(model, name="detector", labels=CLASSES, calibration=list(images))


def main(path: str, architecture: str, width: str) -> None:
    """Write the model whole or not at all: two processes may want it at once."""
    target = Path(path)
    partial = target.with_suffix(f".{os.getpid()}")
    partial.write_bytes(make(architecture, float(width)))
    partial.replace(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
