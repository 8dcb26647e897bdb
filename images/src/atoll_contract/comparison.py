"""What `atoll compare` asks of `python -m atoll_stages.compare`: two models, and the pictures to set them against."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """A model: a folder, a bundle or a .tflite file with its label map beside it.

    `trained` are the TFRecord shards that it was trained on; None where that is not known.
    """

    name: str
    path: str
    trained: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PictureSource:
    """Labelled pictures: an archive as the convert stage reads it, or TFRecord shards with their label map."""

    name: str
    archive: str | None = None
    shards: tuple[str, ...] = ()
    labels: str | None = None


@dataclass(frozen=True)
class ComparisonJob:
    """Everything by its path on this machine; the HTML page goes to `page`."""

    old: Contender
    new: Contender
    sources: tuple[PictureSource, ...]
    page: str
