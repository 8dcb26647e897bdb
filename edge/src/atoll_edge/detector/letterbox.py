"""Letterboxed detection: an image keeps its aspect ratio in the input, and its boxes come back into the image."""

from typing import TYPE_CHECKING

from atoll_contract.images import Resize, boxes_in_image, image_region, resize
from atoll_contract.release import Detection
from atoll_edge.detector.backends.base import LoadedModel
from atoll_edge.detector.outputs import ModelOutput

if TYPE_CHECKING:
    from PIL.Image import Image


class LetterboxedModel:
    """A LoadedModel that shows another one each image padded to a square. What it finds in the padding alone is left
    out."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    @property
    def width(self) -> int:
        return self._model.width

    @property
    def height(self) -> int:
        return self._model.height

    def detect(self, image: "Image") -> ModelOutput:
        import numpy as np
        from PIL import Image

        output = self._model.detect(Image.fromarray(resize(image, self.width, Resize.LETTERBOX)))
        found = output.detections
        if not found:
            return output
        region = image_region(image.size, self.width, Resize.LETTERBOX)
        boxes, kept = boxes_in_image(np.array([item.box for item in found]), region)
        placed = zip(found, boxes.tolist(), kept.tolist(), strict=True)
        return ModelOutput(
            tuple(Detection(item.class_id, item.score, tuple(box)) for item, box, inside in placed if inside),
            output.non_finite,
        )


def with_resize(model: LoadedModel, how: Resize) -> LoadedModel:
    """Returns `model`, shown images as `how` says; by itself a LoadedModel squashes them."""
    return LetterboxedModel(model) if how is Resize.LETTERBOX else model
