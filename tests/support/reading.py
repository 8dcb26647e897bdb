"""What a reader makes of some files, without a stage around it."""

from pathlib import Path

from atoll_contract.archive.extract import extract
from atoll_contract.stage import DatasetFormat, DatasetLimits
from atoll_stages.convert.example import Archive, Example
from atoll_stages.convert.pipeline import reader_of
from atoll_stages.convert.problems import Problems
from support.archives import write_files

LIMITS = DatasetLimits()


class Seen:
    """What a reader makes of some files."""

    def __init__(self, files: dict[str, bytes], folder: Path, asked: DatasetFormat = DatasetFormat.AUTO) -> None:
        self.problems = Problems()
        with extract(write_files(files, folder / "data"), folder / "index", LIMITS) as members:
            archive = Archive("data", members, LIMITS, self.problems)
            self.format, reader = reader_of(archive, asked)
            reading = reader.read(archive)
            self.examples: list[Example] = list(reading.examples)
            self.classes = reading.classes

    def boxes(self) -> list[tuple[str, float, float, float, float]]:
        return [(b.label, b.xmin, b.ymin, b.xmax, b.ymax) for example in self.examples for b in example.boxes]

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.problems.counts)
