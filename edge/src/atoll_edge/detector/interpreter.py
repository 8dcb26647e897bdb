"""A TFLite interpreter as a LoadedModel; LiteRT and pycoral's interpreters have the same methods."""

from typing import TYPE_CHECKING, Any

from atoll_edge.detector.backend import LoadError
from atoll_edge.detector.outputs import OutputsError, Reading, read_outputs

if TYPE_CHECKING:
    from PIL.Image import Image


class InterpretedModel:
    """Wraps an interpreter whose tensors are allocated.

    Raises:
        LoadError: the input is not one uint8 RGB picture.
    """

    def __init__(self, interpreter: Any) -> None:
        inputs = interpreter.get_input_details()
        shape = [int(size) for size in inputs[0]["shape"]] if len(inputs) == 1 else []
        kind = inputs[0]["dtype"].__name__ if len(inputs) == 1 else "none"
        if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or kind != "uint8":
            raise LoadError(f"the model's {len(inputs)} inputs, {shape} {kind}, are not one uint8 picture [1,h,w,3]")
        if shape[1] != shape[2]:
            raise LoadError(f"the model takes {shape[2]}×{shape[1]} pixels; Atoll squashes pictures to a square")
        self._interpreter = interpreter
        self._index = inputs[0]["index"]
        self.height, self.width = shape[1], shape[2]

    def detect(self, picture: "Image") -> Reading:
        from atoll_contract.preprocess import resize

        self._interpreter.set_tensor(self._index, resize(picture, self.width)[None])
        self._interpreter.invoke()
        try:
            return read_outputs(self._interpreter)
        except OutputsError as error:
            raise LoadError(str(error)) from None
