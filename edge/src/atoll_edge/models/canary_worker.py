"""`python -m atoll_edge.models.canary_worker`: load a stranger's model and look at some pictures with it.

Reads one CanaryJob as JSON on standard input, writes one verdict `{"error": null | text}` on standard output. Runs on
the CPU, in a process of its own: a file that crashes the parser ends this process and nothing else.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from atoll_contract.document import Document, from_json
from atoll_contract.release import Detection
from atoll_edge.detector.outputs import Reading

MIN_IOU = 0.5
MAX_SCORE_DIFFERENCE = 0.15
NOISE_PICTURES = 3


class GoldenPicture(Document, frozen=True):
    """A picture and what the model must see in it."""

    path: str
    expected: tuple[Detection, ...]


class CanaryJob(Document, frozen=True):
    """`side` is None where no manifest says it."""

    model: str
    classes: int
    side: int | None = None
    golden: tuple[GoldenPicture, ...] = ()


class CanaryFailed(ValueError):
    """The model does not do what its manifest says."""


def try_model(job: CanaryJob) -> None:
    """Load, run on noise and on the golden pictures.

    Raises:
        CanaryFailed, LoadError: why not.
    """
    import numpy as np
    from PIL import Image

    from atoll_edge.detector.backends import loader

    model = loader().load(Path(job.model), threads=1)
    if job.side is not None and job.side != model.width:
        raise CanaryFailed(f"the model takes {model.width} pixels, the manifest says {job.side}")
    random = np.random.default_rng(0)
    for _ in range(NOISE_PICTURES):
        noise = random.integers(0, 256, (model.height, model.width, 3), np.uint8)
        require_sane(model.detect(Image.fromarray(noise)), job.classes)
    for picture in job.golden:
        with Image.open(picture.path) as image:
            reading = model.detect(image.convert("RGB"))
        require_sane(reading, job.classes)
        _require_expected(reading.detections, picture)


def require_sane(reading: Reading, classes: int) -> None:
    """Raises CanaryFailed where an answer is no number, of no class, or has no possible score."""
    if reading.non_finite:
        raise CanaryFailed(f"{reading.non_finite} detections hold NaN or infinity")
    for found in reading.detections:
        if not 0 <= found.class_id < classes:
            raise CanaryFailed(f"the model answers class {found.class_id}, there are {classes} labels")
        if not 0 <= found.score <= 1:
            raise CanaryFailed(f"the model answers a score of {found.score:g}")


def _require_expected(found: Sequence[Detection], picture: GoldenPicture) -> None:
    left = list(found)
    for wanted in picture.expected:
        match = next((item for item in left if agrees(item, wanted)), None)
        if match is None:
            raise CanaryFailed(
                f"{Path(picture.path).name}: class {wanted.class_id} with score {wanted.score:.2f} was expected, "
                f"and is not among {len(found)} detections (IoU ≥ {MIN_IOU}, score ± {MAX_SCORE_DIFFERENCE})"
            )
        left.remove(match)


def agrees(found: Detection, wanted: Detection) -> bool:
    """Whether a detection is the expected one."""
    close = abs(found.score - wanted.score) <= MAX_SCORE_DIFFERENCE
    return found.class_id == wanted.class_id and close and iou(found.box, wanted.box) >= MIN_IOU


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes [ymin, xmin, ymax, xmax]."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    if height <= 0 or width <= 0:
        return 0.0
    both = height * width
    return both / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both)


def main() -> None:
    from atoll_edge.detector.backends import LoadError

    job = from_json(CanaryJob, sys.stdin.buffer.read())
    error = None
    try:
        try_model(job)
    except (CanaryFailed, LoadError, OSError, ValueError, RuntimeError) as failure:
        error = str(failure)
    json.dump({"error": error}, sys.stdout)


if __name__ == "__main__":
    main()
