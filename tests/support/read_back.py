"""What a conversion makes of some files: every box in pixels, the split, the negatives, the problems and warnings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll_contract.convert_spec import ConvertSpec
from atoll_stages.convert.pipeline import Source, read_dataset, summarize
from support.archives import Files, packed

PixelBox = tuple[str, float, float, float, float]


@dataclass
class ReadBack:
    """`boxes` and `split` are by the name of the image in the archive; edges are rounded to hundredths of a pixel."""

    boxes: dict[str, list[PixelBox]] = field(default_factory=dict)
    split: dict[str, str | None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


def read_back(files: Files, folder: Path, **spec: Any) -> ReadBack:
    """Converts the files as one zip archive."""
    archive = folder / "data.zip"
    archive.write_bytes(packed(files, ".zip"))
    sources = [Source(archive.name, archive)]
    with read_dataset(sources, ConvertSpec(sources=(), **spec), folder / "work") as conversion:
        summary = summarize(conversion)
        found = ReadBack(
            counts=dict(conversion.problems.counts),
            warnings=summary.warnings,
            classes=summary.classes,
            formats=tuple(str(form) for forms in conversion.formats for form in forms),
            details=tuple(f"{problem.kind}: {problem.detail}" for problem in conversion.problems.listed),
        )
        for example in conversion.store.examples():
            width, height = example.width, example.height
            found.boxes[example.name] = [
                (
                    label,
                    round(box.xmin * width, 2),
                    round(box.ymin * height, 2),
                    round(box.xmax * width, 2),
                    round(box.ymax * height, 2),
                )
                for label, box in example.boxes
            ]
            found.split[example.name] = example.split
    return found
