"""Rockchip's NPUs as a compile target: `rknn-toolkit2`, and its simulator.

The toolkit's licence lets it be used for Rockchip's products; who builds the image installs it, as with the Edge TPU's
compiler. It needs PyTorch ≤ 2.4, of which a build for the CPU will do.
"""

import re

from atoll_stages.compile.network_compiler import NetworkCompiler

RKNN = NetworkCompiler(
    name="rknn",
    processor="the Rockchip NPU",
    settings={chip: {"chip": chip} for chip in ("rk3588", "rk3576", "rk3568", "rk3566", "rk3562")},
    compiled="compiled.rknn",
    suffix=".rknn",
    variable="ATOLL_RKNN_PYTHON",
    install="install rknn-toolkit2 2.5.0 with a CPU build of PyTorch in an environment of its own, and name its "
    "interpreter in ATOLL_RKNN_PYTHON, or build its image: make images TARGETS=rknn (docs/targets.md)",
    tool="rknn_tool.py",
    package="rknn",
    version=re.compile(r"rknn-toolkit2 version: (\S+)"),
    # A row of the table that the toolkit prints of the built model; the first and the last row are no operations.
    mapped_row=re.compile(
        r"^D RKNN: \[[^\]]*\] \d+ +(?!InputOperator|OutputOperator)\w+ +\w+ +(?:(?P<on_chip>NPU)|CPU) ", re.MULTILINE
    ),
)
