"""The figures in a run's status: what its data set holds and what its models reach."""

from atoll_contract.document import Document


class ClassBoxes(Document, frozen=True):
    name: str
    boxes: int


class DatasetStatus(Document, frozen=True):
    digest: str
    pictures: int = 0
    negatives: int = 0
    train: int = 0
    validation: int = 0
    test: int = 0
    problems: int = 0
    # None where there are none, so that older statuses stay as they are.
    warnings: tuple[str, ...] | None = None
    classes: tuple[ClassBoxes, ...] = ()


class ModelMetrics(Document, frozen=True):
    ap50: str = ""
    ap: str = ""


class Int8Metrics(ModelMetrics, frozen=True):
    """With the borders of AP50's 95 % interval, where that was measured."""

    ap50_low: str | None = None
    ap50_high: str | None = None


class MetricsStatus(Document, frozen=True):
    float_: ModelMetrics = ModelMetrics()
    int8: Int8Metrics = Int8Metrics()
    # The images that were measured, and the split that they are of.
    pictures: int | None = None
    split: str | None = None


class ClassMetric(Document, frozen=True):
    name: str
    ap50: str


class TargetFigures(Document, frozen=True):
    """`source` is `simulator` or `predicted`."""

    ap50: str
    ap: str
    source: str
