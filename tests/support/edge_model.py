"""A real int8 detector of five kilobytes, made with TensorFlow when a test asks for it.

Its 8×8 cells find red (class 0) and blue (class 1) squares by colour alone, so that the right answer for a drawn
picture is known without training. The file has the form that export gives: uint8 input with scale 1/127.5 and zero
point 127, `TFLite_Detection_PostProcess`, outputs in the order boxes, class ids, scores, count, no signature.
"""

import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIDE = 64
CELLS = 8
LABELS = ("red", "blue")
MAX_DETECTIONS = 25
_OPTIONS = {
    "max_detections": f"i: {MAX_DETECTIONS}",
    "max_classes_per_detection": "i: 1",
    "nms_score_threshold": "f: 0.2",
    "nms_iou_threshold": "f: 0.6",
    "num_classes": f"i: {len(LABELS)}",
    "y_scale": "f: 10",
    "x_scale": "f: 10",
    "h_scale": "f: 5",
    "w_scale": "f: 5",
    "use_regular_nms": "b: true",
    "detections_per_class": f"i: {MAX_DETECTIONS}",
}


@functools.cache
def colour_detector(side: int = SIDE, *, signature: bool = False) -> bytes:
    """The model file for inputs of `side` × `side`; with `signature` the outputs stay as the converter orders them.

    Made by a process of its own, once for this text of this module: a test process stays free of TensorFlow, and so
    does the edge image's own set of packages.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "atoll-test"
    text = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    path = cache / f"edge-model-{text}-{side}-{int(signature)}.tflite"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, str(path), str(side), str(int(signature))]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    return path.read_bytes()


def convert(side: int, *, signature: bool) -> bytes:
    """Make the model with TensorFlow."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(_module(tf, side), folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = functools.partial(_calibration, side)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.allow_custom_ops = True
        converter.inference_input_type = tf.uint8
        raw: bytes = converter.convert()
    return raw if signature else _in_order(raw)


def _module(tf: Any, side: int) -> Any:
    import numpy as np

    centres = (np.arange(CELLS) + 0.5) / CELLS
    ys, xs = np.meshgrid(centres, centres, indexing="ij")
    sizes = np.full(CELLS * CELLS, 1 / CELLS)
    anchors = np.stack([ys.ravel(), xs.ravel(), sizes, sizes], -1).astype(np.float32)
    stride = side // CELLS
    kernel = np.zeros((stride, stride, 3, len(LABELS)), np.float32)
    kernel[:, :, 0, 0] = kernel[:, :, 2, 1] = 1.0
    kernel[:, :, 1, :] = -1.0
    kernel[:, :, 2, 0] = kernel[:, :, 0, 1] = -1.0
    options = " ".join(f'attr {{ key: "{key}" value {{ {value} }} }}' for key, value in _OPTIONS.items())

    @tf.function(experimental_implements=f'name: "TFLite_Detection_PostProcess" {options}')  # type: ignore[untyped-decorator]
    def post_process(boxes: Any, scores: Any, anchors: Any) -> Any:
        del boxes, scores, anchors
        shapes = ([1, MAX_DETECTIONS, 4], [1, MAX_DETECTIONS], [1, MAX_DETECTIONS], [1])
        return tuple(tf.zeros(shape) for shape in shapes)

    class Detector(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(kernel * (4.0 / stride**2))

        @tf.function(input_signature=[tf.TensorSpec([1, side, side, 3], tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, image: Any) -> Any:
            logits = tf.nn.conv2d(image, self.kernel, stride, "VALID")
            scores = tf.sigmoid(tf.reshape(logits, [1, CELLS * CELLS, len(LABELS)]) - 6.0)
            still = tf.reshape(tf.nn.conv2d(image, self.kernel[..., :1] * 0.0, stride, "VALID"), [1, -1, 1])
            return post_process(tf.concat([still] * 4, -1), scores, tf.constant(anchors))

    return Detector()


def _calibration(side: int) -> Any:
    import numpy as np

    random = np.random.default_rng(0)
    for _ in range(16):
        image = random.uniform(-1, 1, (1, side, side, 3)).astype(np.float32)
        image[0, : side // 4, : side // 4] = (1, -1, -1)
        image[0, -(side // 4) :, : side // 4] = (-1, -1, 1)
        yield [image]


def _in_order(raw: bytes) -> bytes:
    """The file with its outputs in the order that pycoral reads without a signature."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(raw))
    graph = model.subgraphs[0]
    wanted = {int(item.tensorIndex): item.name.decode() for item in model.signatureDefs[0].outputs}
    graph.outputs = sorted(graph.outputs, key=lambda index: wanted[int(index)])
    model.signatureDefs = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def write_model(folder: Path, *, side: int = SIDE) -> tuple[Path, Path]:
    """The model and its label map as files."""
    from atoll_contract.labelmap import format_label_map

    model, labels = folder / "unoptimized.tflite", folder / "map.pbtxt"
    model.write_bytes(colour_detector(side))
    labels.write_text(format_label_map(LABELS))
    return model, labels


def main(path: str, side: str, signature: str) -> None:
    """Write the model whole or not at all: two test processes may want it at once."""
    target = Path(path)
    partial = target.with_suffix(f".{os.getpid()}")
    partial.write_bytes(convert(int(side), signature=bool(int(signature))))
    partial.replace(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
