"""Pictures a second through convert, against bare Pillow on the same pictures in the same run.

    python tests/bench/convert_throughput.py [--pictures 1000] [--side 640] [--rounds 3] [--json]

Convert does all of it: unpack, read annotations, check, decode, find duplicates, split, write records.
Both Pillow rows are one thread doing nothing else: decoding alone, and decoding and encoding again. The processor time
of convert includes the start of its processes.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Each process that prepares pictures imports this module anew, as it does no module of the stage's: what only the
# process that started them needs is imported where it is needed.
from atoll_contract.archive.limits import size
from atoll_contract.convert_spec import ConvertSpec
from atoll_stages.convert.images import JPEG_QUALITY


def export(pictures: Sequence[bytes], side: int) -> bytes:
    """The pictures as a Supervisely export."""
    from support.archives import annotation, meta, packed, rectangle
    from support.drawn_photographs import BOXES

    files = {"game/meta.json": meta("note")}
    boxes = [rectangle("note", 10 + 9 * n, 10 + 7 * n, 60 + 9 * n, 50 + 7 * n) for n in range(BOXES)]
    for number, data in enumerate(pictures):
        files[f"game/ds0/img/frame_{number:06d}.jpg"] = data
        files[f"game/ds0/ann/frame_{number:06d}.jpg.json"] = annotation(boxes, size=(side, side * 3 // 4))
    return packed(files, ".tar")


def decode(pictures: Sequence[bytes]) -> None:
    for data in pictures:
        with Image.open(io.BytesIO(data)) as image:
            image.convert("RGB").load()


def decode_and_encode(pictures: Sequence[bytes]) -> None:
    for data in pictures:
        with Image.open(io.BytesIO(data)) as image:
            image.convert("RGB").save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY)


def convert(archive: Path) -> None:
    """The whole conversion, its records written to disk."""
    from atoll_stages.convert.pipeline import Source, read_dataset, summarize
    from atoll_stages.convert.shards import write_shards

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        with read_dataset([Source(archive.name, archive)], ConvertSpec(sources=()), work) as conversion:
            summary = summarize(conversion)
            for split in summary.statistics.splits:
                list(write_shards(conversion.store, split, work, classes=summary.classes, sources=[archive.name]))


@dataclass(frozen=True)
class Rate:
    """Pictures a second, the median of the rounds, and the processor time for each in milliseconds, the least."""

    images: float
    cpu_milliseconds: float


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and processor time, that of ended processes included."""
    start, cpu_start = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - start, cpu_seconds() - cpu_start


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(count: int, side: int, rounds: int) -> dict[str, Rate]:
    """The contenders take turns, so that a busy machine slows all alike."""
    import statistics

    from support.drawn_photographs import photograph

    pictures = [photograph(seed, side) for seed in range(count)]
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "bench.tar"
        archive.write_bytes(export(pictures, side))
        sys.stderr.write(f"{count} pictures of {side}×{side * 3 // 4}, {size(archive.stat().st_size)}\n")
        contenders: dict[str, Callable[[], None]] = {
            "Pillow: decode": lambda: decode(pictures),
            "Pillow: decode and encode": lambda: decode_and_encode(pictures),
            "convert, whole": lambda: convert(archive),
        }
        times: dict[str, list[tuple[float, float]]] = {label: [] for label in contenders}
        for _ in range(rounds):
            for label, work in contenders.items():
                times[label].append(seconds(work))
    return {
        label: Rate(count / statistics.median(wall for wall, _ in found), 1000 * min(cpu for _, cpu in found) / count)
        for label, found in times.items()
    }


def table(rates: dict[str, Rate]) -> str:
    """A Markdown table with the ratio to bare decoding."""
    base = rates["Pillow: decode"].images
    lines = ["| | pictures/s | ratio to decoding | CPU ms a picture |", "|---|---:|---:|---:|"]
    lines += [
        f"| {label} | {rate.images:,.0f} | {rate.images / base:.2f} | {rate.cpu_milliseconds:.1f} |"
        for label, rate in rates.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--side", type=int, default=640, help="long side in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = measure(options.pictures, options.side, options.rounds)
    sys.stdout.write(
        (json.dumps({label: asdict(rate) for label, rate in rates.items()}) if options.json else table(rates)) + "\n"
    )


if __name__ == "__main__":
    main()
