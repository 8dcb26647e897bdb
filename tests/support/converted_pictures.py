"""What a conversion made of an archive, in the user's terms: each picture with its part of the split and its boxes."""

from pathlib import PurePosixPath

from support.convert_stage import Ended
from support.converted_records import edges_of, records_of

PixelBox = tuple[str, int, int, int, int]


def pictures_of(ended: Ended) -> dict[str, list[PixelBox]]:
    """The boxes of each picture by its file name, in whole pixels of the picture as it is stored in the records."""
    assert ended.code == 0, ended.message
    found = {}
    for part in ended.dataset().splits.values():
        for record in records_of(ended.store, part):
            name = PurePosixPath(record["image/filename"][0].decode()).name
            assert name not in found
            width, height = record["image/width"][0], record["image/height"][0]
            labels = (label.decode() for label in record["image/object/class/text"])
            edges = (
                (round(xmin * width), round(ymin * height), round(xmax * width), round(ymax * height))
                for xmin, ymin, xmax, ymax in edges_of(record)
            )
            found[name] = [(label, *box) for label, box in zip(labels, edges, strict=True)]
    return found


def warnings_of(ended: Ended) -> dict[str, int]:
    """The kinds of problems but for likeness, which small drawn pictures have by chance."""
    assert ended.code == 0, ended.message
    counts = ended.dataset().problem_counts
    return {kind: count for kind, count in counts.items() if kind not in ("NearDuplicate", "SplitLeakage")}
