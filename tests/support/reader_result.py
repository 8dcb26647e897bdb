"""The result of a dataset reader for some files, without a stage."""

from pathlib import Path

from atoll_contract.archive.extract import extract
from atoll_contract.convert_spec import DatasetFormat, DatasetLimits
from atoll_stages.convert.problems import Problems
from atoll_stages.convert.readers import find_readers
from atoll_stages.convert.readers.base import AnnotatedImage, Archive
from atoll_stages.convert.readers.split_lists import SplitLists
from atoll_stages.convert.totals import Fate
from support.archives import write_files

LIMITS = DatasetLimits()


class ReaderResult:
    """The images, classes and problems that the reader of some files returns."""

    def __init__(self, files: dict[str, bytes], folder: Path, requested: DatasetFormat = DatasetFormat.AUTO) -> None:
        self.problems = Problems()
        with extract(write_files(files, folder / "data"), folder / "index", LIMITS) as members:
            archive = Archive("data", members, LIMITS, self.problems)
            reader, *_ = find_readers(archive, requested)
            annotations = reader.read(archive)
            self.format = reader.format
            self.images: list[AnnotatedImage] = list(SplitLists(archive).applied(annotations.images))
            self.classes = annotations.classes
            self.used = {file.name for file in members if archive.fates.of(file.number) is Fate.DESCRIPTION}

    def boxes(self) -> list[tuple[str, float, float, float, float]]:
        return [(b.label, b.xmin, b.ymin, b.xmax, b.ymax) for image in self.images for b in image.boxes]

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.problems.counts)
