"""The CPU backend: LiteRT with XNNPACK."""

import os
from pathlib import Path

from atoll_edge.detector.backend import LoadError
from atoll_edge.detector.interpreter import InterpretedModel


class LiteRtLoader:
    """Loads int8 models for the CPU."""

    def load(self, path: Path, *, threads: int) -> InterpretedModel:
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_path=os.fspath(path), num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            # A compiled model asks for the custom op that only libedgetpu has.
            raise LoadError(f"LiteRT cannot load {path.name}: {error}") from None
        return InterpretedModel(interpreter)


def loader() -> LiteRtLoader:
    """See `backend.ModelLoader`."""
    return LiteRtLoader()
