"""How far the figures of a model can be trusted: their interval, what was learnt by heart, and what size is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atoll_contract.images import Resize
from atoll_contract.text import ap50_text
from atoll_stages.export.bootstrap import ap50_interval, sample_ap50
from atoll_stages.export.evaluation import DIGITS, Measurement
from atoll_stages.export.size_recall import SizeRecall, recall_by_size
from atoll_stages.train.dataset import Example
from atoll_stages.train.detections import Detections
from atoll_stages.train.evaluate import Metrics, evaluate

# The training images that the file is tried on.
MAX_TRAINING_IMAGES = 100
# By so much AP is higher on training images where a model has learnt them by heart; .1 is usual for one that has not.
OVERFITTED_GAP = 0.2


@dataclass(frozen=True)
class Reliability:
    """Figures of the int8 file: the 95 % interval of AP50 for `images` images, the recall by size, and the metrics on
    `training_images` images of the training part. `chosen_on` says that the images also chose the step."""

    images: int
    interval: tuple[float, float] | None
    sizes: tuple[SizeRecall, ...]
    training_images: int
    training: Metrics
    gap: float
    chosen_on: bool

    @property
    def is_overfitted(self) -> bool:
        return self.gap >= OVERFITTED_GAP

    def ap50_text(self, ap50: float) -> str:
        return ap50_text(ap50, images=self.images, interval=self.interval)

    def document(self) -> dict[str, Any]:
        """Returns its part of `metrics.json`."""
        return {
            "pictures": self.images,
            "training": {
                "pictures": self.training_images,
                "ap50": round(self.training.ap50, DIGITS),
                "ap": round(self.training.ap, DIGITS),
            },
            "recallBySize": [
                {"from": item.low, "below": item.high, "objects": item.objects, "recall": round(item.recall, DIGITS)}
                for item in self.sizes
            ],
        }


def measure_reliability(
    measurement: Measurement,
    examples: Sequence[Example],
    *,
    training: Sequence[Example],
    training_detections: Sequence[Detections],
    side: int,
    resize: Resize = Resize.SQUASH,
) -> Reliability:
    """`training` are images of the training part, and `training_detections` what the file finds in them."""
    classes = measurement.classes
    on_training = evaluate(examples=training, detections=training_detections, classes=classes, side=side, resize=resize)
    return Reliability(
        images=len(examples),
        interval=ap50_interval(sample_ap50(examples, measurement.detections, classes), measurement.int8_metrics.ap50),
        sizes=recall_by_size(examples, measurement.detections, classes=len(classes), side=side, resize=resize),
        training_images=len(training),
        training=on_training,
        gap=on_training.ap - measurement.int8_metrics.ap,
        chosen_on=measurement.split != "test",
    )
