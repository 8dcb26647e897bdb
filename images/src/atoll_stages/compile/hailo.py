"""Hailo's accelerators as a compile target. Their compiler is behind a login, so Atoll has never run it: who has it
brings a program of their own that works as `network_compiler` says, in an image of their own."""

from atoll_stages.compile.network_compiler import NetworkCompiler

HAILO = NetworkCompiler(
    name="hailo",
    processor="the Hailo accelerator",
    settings={chip: {"chip": chip} for chip in ("hailo8l", "hailo8")},
    compiled="compiled.hef",
    suffix=".hef",
    variable="ATOLL_HAILO_COMPILER",
    install="Hailo's Dataflow Compiler is behind a login and was never run by Atoll: name a program of your own that "
    "drives it in ATOLL_HAILO_COMPILER, in an image of your own (docs/targets.md)",
)
