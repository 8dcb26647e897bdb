"""How much of a dataset was bad, against what is allowed."""

from dataclasses import dataclass

from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason
from atoll_stages.convert.problems import INVALID_ANNOTATION, INVALID_BOX, INVALID_PICTURE, Kind, Problems


@dataclass
class Tally:
    """Pictures looked at and boxes taken; what was refused stands in `Problems`."""

    pictures: int = 0
    boxes: int = 0

    def require(self, problems: Problems, max_percent: float) -> None:
        """
        Raises:
            DatasetError: AnnotationInvalid or DatasetMalformed, more than `max_percent` of the annotation files,
                boxes or pictures are bad; the first of them is named.
        """
        files = self.pictures + problems.total(*INVALID_ANNOTATION)
        boxes = self.boxes + problems.total(*INVALID_BOX)
        for kinds, whole, what, reason in (
            (INVALID_ANNOTATION, files, "annotation files unreadable", Reason.ANNOTATION_INVALID),
            (INVALID_PICTURE, self.pictures, "pictures unreadable", Reason.DATASET_MALFORMED),
            (INVALID_BOX, boxes, "boxes invalid", Reason.ANNOTATION_INVALID),
        ):
            _require(problems, kinds, whole=whole, what=what, reason=reason, max_percent=max_percent)


def _require(
    problems: Problems, kinds: tuple[Kind, ...], *, whole: int, what: str, reason: Reason, max_percent: float
) -> None:
    bad = problems.total(*kinds)
    if whole and 100 * bad > max_percent * whole:
        raise DatasetError(
            reason,
            f"{bad:,} of {whole:,} {what} ({100 * bad / whole:.1f} %, limit {max_percent:g} %); "
            f"first: {problems.first(*kinds)}",
        )
