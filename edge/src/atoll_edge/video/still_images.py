"""`python -m atoll_edge.video.still_images`: runs a model on single images; the page of `atoll ui` starts it.

Each line of standard input is the path of an image file. For each, standard output has one line with a JSON object:
`detections`, with boxes relative to the upright image, and the `seconds` of the model; or the `error`, a sentence. A
first line has the `labels`, or `reason` and `message` if the model cannot be run. It ends with its input.
"""

import argparse
import json
import struct
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atoll_contract.errors import ExitCode, SpecError
from atoll_contract.images import opened
from atoll_edge.detector.backends.base import LoadedModel, LoadError
from atoll_edge.detector.backends.litert import loader
from atoll_edge.detector.letterbox import with_resize
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.models.bundle import BundleError, named_model
from atoll_edge.robot.detection import View, observe
from atoll_edge.robot.lens import FieldOfView
from atoll_edge.system import cores

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_PIXELS = 50_000_000
MAX_THREADS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m atoll_edge.video.still_images", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="bundle, folder of a release or .tflite file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="atoll-images-") as folder:
        try:
            spec = named_model(options.model, labels=None, folder=Path(folder) / "bundle")
            assert spec.cpu_path is not None
            model = with_resize(loader().load(spec.cpu_path, threads=min(MAX_THREADS, cores())), spec.resize)
        except (BundleError, LoadError) as error:
            refusal = SpecError(str(error))
            _print({"reason": refusal.reason, "message": refusal.message})
            return int(refusal.code)
        _print({"labels": list(spec.labels)})
        try:
            for line in sys.stdin:
                _print(detect(model, spec, Path(line.rstrip("\n"))))
        except KeyboardInterrupt:
            return int(ExitCode.INTERRUPTED)
    return 0


def detect(model: LoadedModel, spec: LoadedModelSpec, path: Path) -> dict[str, Any]:
    """The detections in one image file that reach the thresholds of the model, the best first; or the `error`."""
    from PIL import ImageOps

    try:
        with opened(path.read_bytes(), FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                return {"error": f"it has {file.width}×{file.height} pixels; at most {MAX_PIXELS:,} are taken"}
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, SyntaxError, ValueError, struct.error):
        return {"error": f"it cannot be read as one of {', '.join(FORMATS)}; save it as a JPEG and try again"}
    started = time.perf_counter()
    try:
        found = model.detect(image).detections
    except LoadError as error:
        return {"error": str(error)}
    seconds = time.perf_counter() - started
    seen = observe(found, labels=spec.labels, thresholds=spec.thresholds, view=View(FieldOfView()))
    detections = [
        {"label": item.label, "score": round(item.score, 4), "box": [item.xmin, item.ymin, item.xmax, item.ymax]}
        for item in sorted(seen, key=lambda item: -item.score)
    ]
    return {"width": image.width, "height": image.height, "seconds": round(seconds, 4), "detections": detections}


def _print(document: Mapping[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    sys.exit(main())
