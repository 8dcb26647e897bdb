"""Documents between the command line and the stages' tools: lint of an archive, timing, comparison of models."""

from atoll_contract.dataset import Problem
from atoll_contract.document import Document
from atoll_contract.errors import Reason

# The file of a `Gallery`, in the folder of its images.
GALLERY_FILE = "gallery.json"
# Smaller objects (by the root of their area in the input of the detector) need a larger input. In docs/accuracy.md AP50
# rises by ten points where objects of 19 pixels become 24, and by one where those of 21 become 26.
SMALL_PIXELS = 20
# The labelled pictures of the sample, and their width and height, unless somebody asks for others.
SAMPLE_IMAGES, SAMPLE_SIZE = 240, (480, 360)


class LintClass(Document, frozen=True):
    """The boxes of a class by split; a detector of 320 pixels hardly finds the `tiny` ones."""

    name: str
    boxes: dict[str, int]
    tiny: int


class LintReport(Document, frozen=True):
    """The output of `python -m atoll_stages.convert --lint … --json`. `ok` is False where a run would fail with
    `reason` and `message`. `warnings` and `totals` are those of `dataset.json`. `small_boxes` counts by the side of a
    detector's input (as "320") the boxes that are below SMALL_PIXELS in it."""

    path: str
    ok: bool
    reason: str
    message: str
    formats: tuple[str, ...] = ()
    pictures: int = 0
    negatives: int = 0
    split_by: str = ""
    split: dict[str, int] | None = None
    classes: tuple[LintClass, ...] = ()
    exact_duplicates: int = 0
    near_duplicates: int = 0
    duplicates_across_split: int = 0
    problem_counts: dict[str, int] | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    totals: dict[str, dict[str, int]] | None = None
    small_boxes: dict[str, int] | None = None

    def fault_of(self, name: str) -> str:
        """The message with the archive's name or path before it, unless it begins with the name already."""
        own = self.message.startswith(f"{name.rpartition('/')[2]}:")
        return self.message if own else f"{name}: {self.message}"


class StoreCheck(Document, frozen=True):
    """The output of `python -m atoll_stages.store_check`: `Completed`, or why the store cannot be used. `clock_skew` is
    how many seconds the pod's clock is ahead of the server's."""

    reason: Reason
    message: str
    clock_skew: float | None = None


class GalleryBox(Document, frozen=True):
    """A box with its class; edges relative to the image, 0…1."""

    label: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float


class GalleryImage(Document, frozen=True):
    """A thumbnail in `file`, `width` × `height`, of the image `name` of the dataset."""

    file: str
    name: str
    split: str
    width: int
    height: int
    boxes: tuple[GalleryBox, ...] = ()


class Gallery(Document, frozen=True):
    """Some images of a dataset, in the order of reading, as `--lint … --gallery FOLDER` writes them."""

    images: tuple[GalleryImage, ...] = ()


class Timing(Document, frozen=True):
    """Measured for `width` and `batch`, without what other programs on the machine added.

    `seconds_per_step` is the mean over a run, whose first steps use smaller images; `other_seconds` is the time of
    train and export beside the steps: loading and evaluation.
    """

    accelerator: str
    cpus: int
    width: float
    batch: int
    seconds_per_step: float
    other_seconds: float


class Contender(Document, frozen=True):
    """A model: a folder, a bundle, or a .tflite file with its label map beside it. `trained` are the TFRecord shards
    that it was trained on; None where they are unknown."""

    name: str
    path: str
    trained: tuple[str, ...] | None = None


class ImageSource(Document, frozen=True):
    """Labelled images: an archive in a format of the convert stage, or TFRecord shards with their label map."""

    name: str
    archive: str | None = None
    shards: tuple[str, ...] = ()
    labels: str | None = None


class ComparisonJob(Document, frozen=True):
    """All paths are on this machine; `page` is the HTML file to write."""

    old: Contender
    new: Contender
    sources: tuple[ImageSource, ...]
    page: str


class SampleArchive(Document, frozen=True):
    """A labelled archive of the sample: its file, and the boxes of each class."""

    file: str
    pictures: int
    boxes: dict[str, int]


class SampleFiles(Document, frozen=True):
    """The output of `python -m atoll_stages.sample field`: archives, and folders with the numbered frames of films that
    have `rate` frames a second."""

    archives: tuple[SampleArchive, ...]
    videos: tuple[str, ...]
    rate: int


class WeightsFile(Document, frozen=True):
    """ImageNet weights that were fetched from `source` into the file `path`; or the `problem` why there are none."""

    source: str
    width: float
    path: str = ""
    sha256: str = ""
    size: int = 0
    # Layers of the backbone that they set.
    layers: int = 0
    problem: str | None = None
    # The sha256 of `source`, where `path` was made from it. Such bytes may differ from machine to machine.
    source_sha256: str | None = None


class WeightsRecord(Document, frozen=True):
    """What was first put into a store as ImageNet weights; it lies beside them, and other bytes are told of."""

    source: str
    sha256: str
    source_sha256: str | None = None

    def is_of(self, found: WeightsFile) -> bool:
        """Whether these are the weights that were found now."""
        if self.source_sha256 and found.source_sha256:
            return self.source_sha256 == found.source_sha256
        return self.sha256 == found.sha256
