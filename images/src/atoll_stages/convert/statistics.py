"""Counting the usable examples: boxes by class and part, negatives, tiny boxes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage import SplitBy
from atoll_stages.convert.duplicates import NearCounts, report_leakage, report_near
from atoll_stages.convert.example_store import Catalog
from atoll_stages.convert.pipeline import Conversion
from atoll_stages.convert.problems import Kind, counted
from atoll_stages.convert.split import TEST, TRAIN, VALIDATION, assign_parts

PARTS = (TRAIN, VALIDATION, TEST)
# A shorter side below this share of the picture is under 6 pixels at the 320 of the default detector.
TINY_SIDE = 0.02
# Fewer boxes of a class in train teach little.
FEW_BOXES = 20


@dataclass
class Census:
    """Counts over the whole catalogue."""

    pictures: Counter[str] = field(default_factory=Counter)
    negatives: Counter[str] = field(default_factory=Counter)
    boxes: Counter[tuple[str, str]] = field(default_factory=Counter)
    tiny: Counter[str] = field(default_factory=Counter)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(part for part in PARTS if self.pictures[part])

    def labels(self) -> list[str]:
        return sorted({label for label, _ in self.boxes})

    def of_class(self, label: str) -> dict[str, int]:
        """Boxes of a class by part, zeros included."""
        return {part: self.boxes[label, part] for part in self.parts}

    def of_part(self, part: str) -> int:
        return sum(count for (_, where), count in self.boxes.items() if where == part)

    def total(self, label: str) -> int:
        return sum(self.of_class(label).values())


def take_census(catalog: Catalog) -> Census:
    """Count every usable example; before the split all of them are in train."""
    census = Census()
    for example in catalog.ready():
        part = example.part or TRAIN
        census.pictures[part] += 1
        census.negatives[part] += not example.boxes
        for item in example.boxes:
            census.boxes[item.label, part] += 1
            side = min(item.box.xmax - item.box.xmin, item.box.ymax - item.box.ymin)
            census.tiny[item.label] += side < TINY_SIDE
    return census


def class_warnings(census: Census, classes: Iterable[str]) -> list[str]:
    """Classes that a part lacks, that are rare, or that are mostly tiny."""
    found = []
    for label in classes:
        counts, total = census.of_class(label), census.total(label)
        missing = [part for part, count in counts.items() if not count]
        if total and missing:
            found.append(f"class {shown(label)} has boxes, but none in {' and '.join(missing)}")
        elif 0 < counts[TRAIN] < FEW_BOXES:
            found.append(f"class {shown(label)} has {counts[TRAIN]} boxes to learn from; {FEW_BOXES} are a start")
        if total and census.tiny[label] > total / 4:
            found.append(
                f"class {shown(label)}: {census.tiny[label]} of {total} boxes are narrower than "
                f"{TINY_SIDE:.0%} of the picture and will hardly be found"
            )
    return found


@dataclass(frozen=True)
class Findings:
    """The verdict on a dataset; `classes` in label-map order."""

    classes: tuple[str, ...]
    census: Census
    split_by: SplitBy
    near: NearCounts
    leaked: int
    warnings: tuple[str, ...]


def conclude(conversion: Conversion) -> Findings:
    """Split, count and judge the collected examples.

    Raises:
        DatasetError: NoUsableExamples, no box is left or a part of the split would be empty.
    """
    catalog, names, problems = conversion.catalog, conversion.names, conversion.problems
    outcome = assign_parts(catalog, conversion.spec.split)
    census = take_census(catalog)
    used = census.labels()
    classes = names.ordered(used)
    if not used:
        total = sum(census.pictures.values())
        raise DatasetError(
            Reason.NO_USABLE_EXAMPLES,
            f"no box is left of any class in {counted(total, 'picture')} ({_ignored(conversion)}); label objects, "
            "or look at classes, rename and ignore",
        )
    leaked = report_leakage(catalog, problems)
    near = report_near(catalog, problems)
    warnings = [*outcome.warnings, *names.warnings(used), *class_warnings(census, classes)]
    if leaked:
        warnings.append(f"{counted(leaked, 'picture')} in two parts of the split; figures on them are too good")
    if near.across_split:
        warnings.append(f"{counted(near.across_split, 'picture')} looking like one in another part of the split")
    if sum(census.negatives.values()) == 0 and problems.counts[Kind.ANNOTATION_MISSING]:
        warnings.append(
            f"skipped {counted(problems.counts[Kind.ANNOTATION_MISSING], 'picture')} without annotation; "
            "an annotation without objects would make one a negative"
        )
    return Findings(classes, census, outcome.by, near, leaked, tuple(warnings))


def _ignored(conversion: Conversion) -> str:
    ignored = conversion.names.ignored
    listed = ", ".join(f"{count} of {name!r}" for name, count in ignored.most_common(5))
    return f"ignored: {listed}" if listed else "none was annotated"
