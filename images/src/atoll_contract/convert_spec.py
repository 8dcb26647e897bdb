"""What the convert stage is given: archives, classes, split and limits."""

from enum import StrEnum

from atoll_contract.document import Document
from atoll_contract.store_spec import StoreSpec


class DatasetFormat(StrEnum):
    AUTO = "auto"
    SUPERVISELY = "supervisely"
    COCO = "coco"
    VOC = "voc"
    YOLO = "yolo"
    TFOD_CSV = "tfod-csv"
    CVAT = "cvat"
    LABELME = "labelme"
    CREATEML = "createml"


class SplitBy(StrEnum):
    AUTO = "auto"
    TAGS = "tags"
    DATASETS = "datasets"
    HASH = "hash"


class DatasetSource(Document, frozen=True):
    """One archive, or every archive below a key that ends in `/`. `store` is None for the run's own."""

    key: str
    format: DatasetFormat = DatasetFormat.AUTO
    digest: str | None = None
    store: StoreSpec | None = None


class Rename(Document, frozen=True):
    from_: str
    to: str


class Split(Document, frozen=True):
    """Shares in percent; they add up to 100."""

    by: SplitBy = SplitBy.AUTO
    train: int = 80
    validation: int = 20
    test: int = 0
    seed: int = 0


class DatasetLimits(Document, frozen=True):
    """Limits of an archive, from the TrainingProfile. Sizes in bytes."""

    archive_bytes: int = 50 * 2**30
    expanded_bytes: int = 100 * 2**30
    expansion_ratio: int = 100
    members: int = 1_000_000
    member_bytes: int = 256 * 2**20
    header_bytes: int = 64 * 2**10
    path_bytes: int = 512
    path_levels: int = 16
    picture_pixels: int = 64_000_000
    picture_side: int = 16_384
    annotation_bytes: int = 64 * 2**20
    json_depth: int = 32
    classes: int = 1000


class ConvertSpec(Document, frozen=True):
    sources: tuple[DatasetSource, ...]
    classes: tuple[str, ...] = ()
    rename: tuple[Rename, ...] = ()
    ignore: tuple[str, ...] = ()
    split: Split = Split()
    max_invalid_percent: float = 1.0
    limits: DatasetLimits = DatasetLimits()
    # The processes that share the work; which one a process is, `ENV_WORKER_INDEX` says. None: one.
    shards: int | None = None
