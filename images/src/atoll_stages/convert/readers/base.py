"""The interface of a dataset reader: its input, and what it must return."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from atoll_contract.archive.extract import Member, Members
from atoll_contract.archive.limits import shown
from atoll_contract.convert_spec import DatasetFormat, DatasetLimits
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.problems import Action, Kind, Problems
from atoll_stages.convert.readers.json_texts import JsonTexts
from atoll_stages.convert.totals import Fate, MemberFates, Totals

# Of all pictures, also of kinds that are not read: one with such a suffix is named, not overlooked.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jpe", ".jfif"),
    *(".avif", ".heic", ".heif", ".jp2", ".jxl"),
)


class LabelledBox(NamedTuple):
    """A box as annotated: its edges in pixels (0…1 where the image's boxes are `relative`), x to the right, y down.

    `number` is the object's index in its file, from 0. An edge is a coordinate between pixels: the box around a whole
    640×480 image is 0, 0, 640, 480.
    """

    label: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    number: int


@dataclass(frozen=True)
class AnnotatedImage:
    """An image file and what its annotation says of it. An image without boxes is a negative example.

    `annotation` is the name of the annotation file. `dataset` is the path of folders in which the archive keeps the
    image, and `tags` are the image's own; both may name a split. `size` is the (width, height) that the annotation
    claims, in its own orientation; None where it claims none.
    """

    image: Member
    annotation: str
    dataset: str
    boxes: tuple[LabelledBox, ...]
    size: tuple[int, int] | None = None
    relative: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """What a reader returns: the classes that the export declares, in its order, and its images as a stream."""

    classes: tuple[str, ...]
    images: Iterator[AnnotatedImage]


@dataclass(frozen=True)
class Archive:
    """An extracted archive, or a folder, as a reader sees it."""

    name: str
    members: Members
    limits: DatasetLimits
    problems: Problems
    totals: Totals = field(default_factory=Totals)
    fates: MemberFates = field(default_factory=MemberFates)
    json_texts: JsonTexts = field(default_factory=JsonTexts)

    def files(self, *suffixes: str) -> Iterator[Member]:
        """Yields the members with one of these suffixes, without the resource forks that macOS packs beside files."""
        return (member for member in self.members.with_suffix(*suffixes) if not member.base.startswith("._"))

    def use(self, file: Member) -> None:
        """Notes that the reader took something from a member that is neither picture nor annotation: the names of
        classes, a list that names a split, a description of the export."""
        self.fates.mark(file.number, Fate.DESCRIPTION)

    def see_objects(self, count: int) -> None:
        """Counts objects as they enter; each of them must end as a box, or be left out with its kind."""
        self.totals.seen["objects"] += count

    def drop_object(self, kind: Kind, file: Member, number: int, detail: str) -> None:
        """Counts an object that is left out before `parsing.parse_boxes` sees it."""
        self.see_objects(1)
        self.fates.mark(file.number, Fate.LEFT_OUT)
        self.problems.add(kind, Action.DROPPED, file=file.name, number=number, detail=detail)

    def skip_missing_image(
        self, file: Member, detail: str, *, objects: int = 0, kind: Kind = Kind.IMAGE_MISSING
    ) -> None:
        """Counts an annotation whose image is not in the archive, with the objects in it that no one has seen yet."""
        self.see_objects(objects)
        self.totals.objects_left_out[kind] += objects
        self.fates.mark(file.number, Fate.LEFT_OUT)
        self.problems.add(kind, Action.SKIPPED, file=file.name, detail=detail)

    def check_class_count(self, file: Member, count: int, noun: str = "classes") -> None:
        """Raises DatasetTooLarge where a file names more classes than allowed."""
        if count > self.limits.classes:
            text = f"{shown(file.name)} has more than {self.limits.classes} {noun}"
            raise DatasetError(Reason.DATASET_TOO_LARGE, text)

    @contextmanager
    def skipping_unreadable(self, file: Member) -> Iterator[None]:
        """Counts the annotation file as unreadable where the block raises `AnnotationInvalid`, and continues."""
        try:
            yield
        except DatasetError as error:
            if error.reason is not Reason.ANNOTATION_INVALID:
                raise
            self.fates.mark(file.number, Fate.LEFT_OUT)
            self.problems.add(Kind.ANNOTATION_UNREADABLE, Action.SKIPPED, file=file.name, detail=error.message)


class Reader(ABC):
    """Reads one annotation format.

    To add a format, give it a name in `DatasetFormat` and in the TrainingRun's CRD, write a module with a subclass of
    Reader in this package, and add it to `READERS` in the package's `__init__`.

    A reader parses annotations and finds their image files. Images, clipping, class rules, duplicates and splits are
    then handled for all formats alike (`pipeline`).
    """

    format: ClassVar[DatasetFormat]
    # What an archive of this format holds, for the message that no format was recognised.
    layout: ClassVar[str]

    @abstractmethod
    def detects(self, archive: Archive) -> bool:
        """Returns whether the archive is of this format. Archives of all formats are tested, so this parses nothing."""

    @abstractmethod
    def read(self, archive: Archive) -> Annotations:
        """Returns the archive's classes and a stream of its images, with one annotation file in memory at a time.

        A bad object (`parsing.parse_boxes`), a missing image and one of many annotation files that cannot be read are
        counted in the archive's problems and left out; `InvalidBudget` decides whether there were too many.

        Raises:
            DatasetError: the whole dataset is unsafe, too large, or its only annotation file is invalid. The stream
                raises it, too.
        """
