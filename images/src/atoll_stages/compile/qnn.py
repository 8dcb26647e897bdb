"""Qualcomm's NPUs (Hexagon Tensor Processor) as a compile target: `onnxruntime-qnn`, and its emulation on x86-64.

The compiled file is an ONNX model whose one node holds the chip's code. A device that runs LiteRT with Qualcomm's
delegate takes the int8 .tflite of the release and needs no compiled file.
"""

import re

from atoll_stages.compile.network_compiler import NetworkCompiler

QNN = NetworkCompiler(
    name="qnn",
    processor="the Qualcomm NPU",
    # The numbers by which Qualcomm's SDK knows the chip.
    settings={"qcs6490": {"htpArch": 68, "socModel": 35}},
    compiled="compiled.onnx",
    suffix=".onnx",
    variable="ATOLL_QNN_PYTHON",
    install="install onnxruntime-qnn 2.7.0, onnxruntime 1.32.0 and onnx in an environment of its own, and name its "
    "interpreter in ATOLL_QNN_PYTHON, or build its image: make images TARGETS=qnn (docs/targets.md)",
    tool="qnn_tool.py",
    package="onnxruntime_qnn",
    version=re.compile(r"^onnxruntime-qnn version: (\S+)", re.MULTILINE),
)
