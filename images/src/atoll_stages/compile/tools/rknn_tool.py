"""Compiles a float ONNX for a Rockchip chip with `rknn-toolkit2`, and runs the result in its simulator.

It is started as a file by the interpreter in which the toolkit is installed, which has nothing of Atoll. Its argument
is a folder with `job.json`, `float.onnx`, `calibration.npy` and `images.npy` (uint8, images × side × side × 3);
it writes `compiled.rknn` and `outputs.npz` there.
"""

import json
import sys
from pathlib import Path

import numpy as np
from rknn.api import RKNN


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    rknn = RKNN(verbose=True)
    # The network takes -1…1; the compiled file takes bytes.
    rknn.config(mean_values=[[127.5] * 3], std_values=[[127.5] * 3], target_platform=job["chip"])
    require(rknn.load_onnx(model=str(folder / "float.onnx")), "load the ONNX file")
    require(rknn.build(do_quantization=True, dataset=str(write_calibration(folder))), "build the model")
    require(rknn.export_rknn(str(folder / "compiled.rknn")), "write its file")
    require(rknn.init_runtime(), "start its simulator")
    found = [rknn.inference(inputs=[image[None]], data_format="nhwc") for image in np.load(folder / "images.npy")]
    arrays = (np.concatenate(outputs) for outputs in zip(*found, strict=True))
    np.savez(folder / "outputs.npz", **dict(zip(job["outputs"], arrays, strict=True)))
    rknn.release()


def write_calibration(folder: Path) -> Path:
    """Writes the calibration images as the toolkit reads them: a file each, and a list of the files."""
    names = []
    for number, image in enumerate(np.load(folder / "calibration.npy")):
        path = folder / f"calibration-{number:05d}.npy"
        # The toolkit takes arrays in the order of the network's input.
        np.save(path, image.transpose(2, 0, 1)[None])
        names.append(str(path))
    listed = folder / "calibration.txt"
    listed.write_text("\n".join(names) + "\n")
    return listed


def require(code: int, what: str) -> None:
    if code != 0:
        raise SystemExit(f"rknn-toolkit2 could not {what} (its code is {code})")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
