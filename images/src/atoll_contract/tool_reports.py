"""What `python -m atoll_stages.convert --lint … --json` prints: a labelled archive, looked at before a run."""

from atoll_contract.dataset import Problem
from atoll_contract.document import Document


class LintClass(Document, frozen=True):
    """Boxes of a class, by part of the split; `tiny` ones are hardly found by a detector of 320 pixels."""

    name: str
    boxes: dict[str, int]
    tiny: int


class LintReport(Document, frozen=True):
    """`ok` is False where a run would fail, for `reason` and with `message`."""

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

    def fault_of(self, name: str) -> str:
        """The message with the archive's name or path before it; most begin with the name themselves."""
        own = self.message.startswith(f"{name.rpartition('/')[2]}:")
        return self.message if own else f"{name}: {self.message}"


class Timing(Document, frozen=True):
    """What was measured of `width` and `batch`. `seconds_per_step` is the mean over a run, whose first steps see
    smaller pictures; `other_seconds` are what train and export take beside the steps: loading, evaluations."""

    accelerator: str
    cpus: int
    width: float
    batch: int
    seconds_per_step: float
    other_seconds: float


class Contender(Document, frozen=True):
    """A model: a folder, a bundle or a .tflite file with its label map beside it.

    `trained` are the TFRecord shards that it was trained on; None where that is not known.
    """

    name: str
    path: str
    trained: tuple[str, ...] | None = None


class PictureSource(Document, frozen=True):
    """Labelled pictures: an archive as the convert stage reads it, or TFRecord shards with their label map."""

    name: str
    archive: str | None = None
    shards: tuple[str, ...] = ()
    labels: str | None = None


class ComparisonJob(Document, frozen=True):
    """Everything by its path on this machine; the HTML page goes to `page`."""

    old: Contender
    new: Contender
    sources: tuple[PictureSource, ...]
    page: str
