"""`dataset.json`, which the convert stage writes last: where it exists, the dataset is complete."""

from collections.abc import Mapping

from msgspec import field

from atoll_contract.document import Document
from atoll_contract.stage_result import Artifact

DATASET_NAME = "dataset.json"
LABEL_MAP_NAME = "map.pbtxt"
MAX_PROBLEMS = 1000


class ClassCount(Document, frozen=True):
    """The number of boxes of one class by split. `id` is that of the label map, from 1."""

    id: int
    name: str
    boxes: Mapping[str, int]


class SplitPart(Document, frozen=True):
    """One split: its TFRecord shards (keys in the store) and what they contain."""

    pictures: int
    boxes: int
    negatives: int
    shards: tuple[Artifact, ...]


class Problem(Document, frozen=True):
    """Something in the input that was changed or left out: the file, the kind of problem and what was done."""

    file: str
    kind: str
    action: str
    detail: str = ""
    object: int | None = None


class SourceInfo(Document, frozen=True):
    key: str
    format: str
    sha256: str
    etag: str
    pictures: int
    boxes: int


class Dataset(Document, frozen=True):
    """The converted dataset. `splits` has `train` and `validation`, and `test` where there is one."""

    digest: str
    sources: tuple[SourceInfo, ...]
    classes: tuple[ClassCount, ...]
    splits: Mapping[str, SplitPart]
    label_map: Artifact
    split_by: str
    # All problems by kind; `problems` has the first MAX_PROBLEMS of them.
    problem_counts: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    # What was left out or changed, as sentences; then what else the user should know.
    warnings: tuple[str, ...] = ()
    # Of members, pictures and objects: how many were `seen`, and what became of them, which adds up.
    totals: Mapping[str, Mapping[str, int]] | None = None
    schema_version: int = 1

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.classes)

    @property
    def evaluation_split(self) -> str:
        """The split that metrics are reported for: test, or validation where there is no test split."""
        return "test" if self.splits.get("test") and self.splits["test"].pictures else "validation"
