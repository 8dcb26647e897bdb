"""`python -m atoll_edge.models.canary_worker`: loads an untrusted model and runs it on a few images.

Reads one CanaryJob as JSON from standard input, writes one result `{"error": null | text, "loaded": true | false}` to
standard output. Runs in a separate process: a file that crashes the parser ends only this process. Its memory is
limited, and where the system runs out of memory, this process is the first to end.
"""

import contextlib
import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from atoll_contract.document import Document, from_json
from atoll_contract.images import Resize
from atoll_contract.release import Detection
from atoll_edge.detector.backends.base import Backend, LoadedModel, LoadError, make_loader
from atoll_edge.detector.letterbox import with_resize
from atoll_edge.detector.outputs import ModelOutput, intersection_over_union

MIN_IOU = 0.5
MAX_SCORE_DIFFERENCE = 0.15
# Another compiler has quantised the network by itself.
MAX_COMPILED_SCORE_DIFFERENCE = 0.3
NOISE_IMAGES = 3
# For the tensors of a model, beside its file; the largest detectors for these devices need a tenth of it.
MEMORY_BYTES = 512 * 2**20


class GoldenImage(Document, frozen=True):
    """An image file and the detections that the model must find in it."""

    path: str
    expected: tuple[Detection, ...]


class CanaryJob(Document, frozen=True):
    """The model file, its number of classes, its input size in pixels (None where no manifest states it), how it is
    shown images, and the document on its outputs that the backend needs."""

    model: str
    classes: int
    side: int | None = None
    golden: tuple[GoldenImage, ...] = ()
    resize: Resize = Resize.SQUASH
    backend: Backend = Backend.CPU
    head: str | None = None


class CanaryFailed(ValueError):
    """The model does not behave as its manifest says."""


def try_model(job: CanaryJob) -> None:
    """Loads the model and runs it on noise and on the golden images.

    Raises:
        LoadError: the backend cannot load it, or its outputs are not those of a detector there.
        CanaryFailed: a result is invalid, or an expected detection is missing.
    """
    import numpy as np
    from PIL import Image

    model = _load(job)
    if job.side is not None and job.side != model.width:
        raise CanaryFailed(f"the model takes {model.width} pixels, the manifest says {job.side}")
    random = np.random.default_rng(0)
    for _ in range(NOISE_IMAGES):
        noise = random.integers(0, 256, (model.height, model.width, 3), np.uint8)
        require_valid(model.detect(Image.fromarray(noise)), job.classes)
    for image in job.golden:
        with Image.open(image.path) as opened:
            output = model.detect(opened.convert("RGB"))
        require_valid(output, job.classes)
        compiled = job.backend is Backend.RKNN
        difference = MAX_COMPILED_SCORE_DIFFERENCE if compiled else MAX_SCORE_DIFFERENCE
        _require_expected(output.detections, image, difference)


def _load(job: CanaryJob) -> LoadedModel:
    path = Path(job.model)
    loader = make_loader(job.backend)
    # The runtimes of accelerators map more of their devices' memory than they use.
    budget = limit_memory(path.stat().st_size) if job.backend is Backend.CPU else None
    try:
        head = None if job.head is None else Path(job.head)
        return with_resize(loader.load(path, threads=1, side=job.side, head=head), job.resize)
    except LoadError as error:
        # LiteRT gives no reason where it gets no memory.
        limited = "" if budget is None else f" (it has {budget // 2**20} MiB of memory beside its file)"
        raise LoadError(f"{error}{limited}") from None


def limit_memory(file_bytes: int) -> int | None:
    """Limits this process to what it has now, a model's file, and MEMORY_BYTES or half of the machine's memory.

    Returns that last part; None without /proc (macOS), where no limit holds.
    """
    usage = Path("/proc/self/statm")
    if not usage.is_file():
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    budget = min(MEMORY_BYTES, os.sysconf("SC_PHYS_PAGES") * page // 2)
    mapped = int(usage.read_text("ascii").split()[0]) * page
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = mapped + file_bytes + budget
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    return budget


def end_first() -> None:
    """Asks the system to end this process before all others when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def require_valid(output: ModelOutput, classes: int) -> None:
    """Raises CanaryFailed if a detection is not finite, of an unknown class, or has a score outside 0…1."""
    if output.non_finite:
        raise CanaryFailed(f"{output.non_finite} detections hold NaN or infinity")
    for found in output.detections:
        if not 0 <= found.class_id < classes:
            raise CanaryFailed(f"the model answers class {found.class_id}, there are {classes} labels")
        if not 0 <= found.score <= 1:
            raise CanaryFailed(f"the model answers a score of {found.score:g}")


def _require_expected(found: Sequence[Detection], image: GoldenImage, difference: float) -> None:
    left = list(found)
    for wanted in image.expected:
        match = next((item for item in left if agrees(item, wanted, difference)), None)
        if match is None:
            raise CanaryFailed(
                f"{Path(image.path).name}: class {wanted.class_id} with score {wanted.score:.2f} was expected, "
                f"and is not among {len(found)} detections (IoU ≥ {MIN_IOU}, score ± {difference})"
            )
        left.remove(match)


def agrees(found: Detection, wanted: Detection, difference: float = MAX_SCORE_DIFFERENCE) -> bool:
    """Returns whether a detection matches the expected one in class, score up to `difference`, and box."""
    close = abs(found.score - wanted.score) <= difference
    return found.class_id == wanted.class_id and close and intersection_over_union(found.box, wanted.box) >= MIN_IOU


def main() -> None:
    job = from_json(CanaryJob, sys.stdin.buffer.read())
    end_first()
    error, loaded = None, True
    try:
        try_model(job)
    except LoadError as failure:
        error, loaded = str(failure), False
    except (CanaryFailed, OSError, ValueError, RuntimeError) as failure:
        error = str(failure)
    except MemoryError:
        error = f"the model needs more than {MEMORY_BYTES // 2**20} MiB of memory beside its file"
    json.dump({"error": error, "loaded": loaded}, sys.stdout)


if __name__ == "__main__":
    main()
