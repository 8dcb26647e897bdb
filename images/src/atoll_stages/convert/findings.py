"""What follows from the collected examples: parts, label map, counts and warnings."""

from dataclasses import dataclass

from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason
from atoll_contract.stage import SplitBy
from atoll_stages.convert.census import Census, class_warnings, take_census
from atoll_stages.convert.conversion import Conversion
from atoll_stages.convert.duplicates import NearCounts, report_leakage, report_near
from atoll_stages.convert.problems import Kind
from atoll_stages.convert.split import assign_parts
from atoll_stages.convert.wording import counted


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
