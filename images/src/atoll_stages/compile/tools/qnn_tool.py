"""Quantises a float ONNX for a Qualcomm chip, compiles it with `onnxruntime-qnn`, and runs the result in its emulation.

It is started as a file by the interpreter in which the package is installed, which has nothing of Atoll. Its argument
is a folder with `job.json`, `float.onnx`, `calibration.npy` and `images.npy` (uint8, images × side × side × 3);
it writes `compiled.onnx`, `outputs.npz` and `mapping.json` there.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxruntime_qnn
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config, qnn_preprocess_model

# Without an ending it is taken for a folder.
COMPILED = "compiled.onnx"
# Operations that only change the form of numbers at the border of what the chip runs.
BORDER = frozenset({"QuantizeLinear", "DequantizeLinear", "EPContext"})


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    print(f"onnxruntime-qnn version: {onnxruntime_qnn.__version__}", flush=True)
    plain, quantised = folder / "float.onnx", folder / "quantised.onnx"
    prepared = folder / "prepared.onnx"
    if qnn_preprocess_model(plain, prepared):
        plain = prepared
    images = CalibrationImages(np.load(folder / "calibration.npy"))
    # A scale for each channel of the weights, as LiteRT has: a depthwise convolution's differ by orders of magnitude.
    config = get_qnn_qdq_config(
        plain, images, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True
    )
    quantize(plain, quantised, config)
    session = compile_session(quantised, folder / COMPILED, job)
    found = [session.run(None, {"image": network_input(image)}) for image in np.load(folder / "images.npy")]
    arrays = (np.concatenate(outputs) for outputs in zip(*found, strict=True))
    np.savez(folder / "outputs.npz", **dict(zip(job["outputs"], arrays, strict=True)))
    (folder / "mapping.json").write_text(json.dumps(count_mapped(quantised, folder / COMPILED)))


class CalibrationImages(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: np.ndarray) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._left, None)
        return None if image is None else {"image": network_input(image)}


def network_input(image: np.ndarray) -> np.ndarray:
    values: np.ndarray = image.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1.0
    return values


def compile_session(model: Path, compiled: Path, job: dict[str, Any]) -> Any:
    """A session in which the chip's code runs in emulation; the code is written to `compiled`."""
    onnxruntime.register_execution_provider_library(onnxruntime_qnn.get_ep_name(), onnxruntime_qnn.get_library_path())
    devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == onnxruntime_qnn.get_ep_name()]
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("ep.context_enable", "1")
    options.add_session_config_entry("ep.context_file_path", str(compiled))
    options.add_session_config_entry("ep.context_embed_mode", "1")
    options.add_provider_for_devices(
        devices[:1],
        {
            "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
            "htp_arch": str(job["htpArch"]),
            "soc_model": str(job["socModel"]),
            "htp_graph_finalization_optimization_mode": "3",
        },
    )
    return onnxruntime.InferenceSession(str(model), options)


def count_mapped(quantised: Path, compiled: Path) -> dict[str, int]:
    """Counts the operations of the network, and those of them that are in the chip's code."""
    total = sum(node.op_type not in BORDER for node in onnx.load(str(quantised)).graph.node)
    left = sum(node.op_type not in BORDER for node in onnx.load(str(compiled)).graph.node)
    return {"mapped": total - left, "total": total}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
