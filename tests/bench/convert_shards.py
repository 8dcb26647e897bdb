"""One conversion by one process and by several shards: the same data set, pictures a second, and the memory of each.

    python tests/bench/convert_shards.py [--pictures 10000] [--side 320] [--shards 1 4] [--json]

The pictures are drawn. Each shard is a process of its own, as a pod is; all of them are on this machine, so that the
wall clock gains only where processors are free. The processor time is of all processes of a conversion together, and
memory is that of its largest process. Bare decoding by one thread is measured in the same run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from atoll_contract import keys
from atoll_contract.convert_spec import ConvertSpec, DatasetSource
from atoll_contract.stage import (
    ENV_INPUT,
    ENV_POD_UID,
    ENV_TERMINATION_LOG,
    ENV_WORK_DIR,
    ENV_WORKER_INDEX,
    Stage,
    StageInput,
)
from atoll_contract.store_spec import StoreSpec, StoreType
from support.archives import annotation, meta, rectangle
from support.drawn_photographs import BOXES, photograph

KEY = keys.dataset("team", "drawn.tar")


@dataclass(frozen=True)
class Row:
    """`images` a second by the wall clock; memory in MiB of the largest process of index 0, and of the other shards."""

    images: float
    cpu_milliseconds: float
    memory: int
    memory_of_others: int
    same: bool = True


def draw(archive: Path, count: int, side: int) -> None:
    """Writes a Supervisely export, a picture at a time."""
    boxes = [rectangle("note", 10 + 9 * n, 10 + 7 * n, 60 + 9 * n, 50 + 7 * n) for n in range(BOXES)]
    label = annotation(boxes, size=(side, side * 3 // 4))
    with tarfile.open(archive, "w") as tar:
        add(tar, "game/meta.json", meta("note"))
        for number in range(count):
            add(tar, f"game/ds0/img/frame_{number:06d}.jpg", photograph(number, side))
            add(tar, f"game/ds0/ann/frame_{number:06d}.jpg.json", label)


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, BytesIO(data))


def decode(archive: Path) -> tuple[float, float]:
    """Images a second and processor milliseconds an image of decoding alone, of at most a thousand."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.endswith(".jpg")][:1000]
        pictures = [(tar.extractfile(member) or BytesIO()).read() for member in members]
    start, cpu = time.perf_counter(), time.process_time()
    for data in pictures:
        with Image.open(BytesIO(data)) as image:
            image.convert("RGB").load()
    wall, spent = time.perf_counter() - start, time.process_time() - cpu
    return len(pictures) / wall, 1000 * spent / len(pictures)


def convert(archive: Path, folder: Path, shards: int, count: int) -> tuple[Row, bytes]:
    """Converts in `folder`; returns what it took, and the data set without what depends on the folder."""
    store = folder / "store"
    (store / KEY).parent.mkdir(parents=True)
    os.link(archive, store / KEY)
    given = StageInput(
        stage=Stage.CONVERT,
        attempt=1,
        run=keys.RunRef("team", "run", "uid"),
        store=StoreSpec(StoreType.DIRECTORY, path=str(store)),
        convert=ConvertSpec(sources=(DatasetSource(KEY),), shards=shards if shards > 1 else None),
    )
    start = time.perf_counter()
    processes = [begin(given.to_env()[ENV_INPUT], folder, index) for index in range(shards)]
    cpu, memory = 0.0, []
    for process in processes:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"a shard ended with {process.returncode}; see {folder}")
        cpu += usage.ru_utime + usage.ru_stime
        memory.append(usage.ru_maxrss // 1024)
    wall = time.perf_counter() - start
    (document,) = store.rglob("dataset.json")
    data = re.sub(rb'"etag":"[^"]*"', b"", document.read_bytes())
    return Row(count / wall, 1000 * cpu / count, memory[0], max(memory[1:], default=0)), data


def begin(document: str, folder: Path, index: int) -> subprocess.Popen[bytes]:
    own = folder / str(index)
    own.mkdir()
    environment = {
        **os.environ,
        ENV_INPUT: document,
        ENV_POD_UID: f"pod-{index}",
        ENV_TERMINATION_LOG: str(own / "message"),
        ENV_WORK_DIR: str(own / "work"),
        ENV_WORKER_INDEX: str(index),
    }
    with (own / "log").open("wb") as log:
        command = [sys.executable, "-P", "-m", "atoll_stages.convert"]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def measure(count: int, side: int, shards: Sequence[int]) -> dict[str, Row]:
    with tempfile.TemporaryDirectory() as name:
        folder, archive = Path(name), Path(name) / "drawn.tar"
        draw(archive, count, side)
        images, cpu = decode(archive)
        rows = {"Pillow: decode, one thread": Row(images, cpu, 0, 0)}
        first = b""
        for number in shards:
            (folder / str(number)).mkdir()
            row, data = convert(archive, folder / str(number), number, count)
            first = first or data
            what = "1 process" if number == 1 else f"{number} shards"
            rows[f"convert, {what}"] = Row(**{**asdict(row), "same": data == first})
    return rows


def table(rows: dict[str, Row]) -> str:
    lines = [
        "| | pictures/s | CPU ms a picture | MiB, index 0 | MiB, others | same data set |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, row in rows.items():
        shown = [str(item) if item else "" for item in (row.memory, row.memory_of_others)]
        same = ("yes" if row.same else "NO") if row.memory else ""
        lines.append(f"| {name} | {row.images:,.0f} | {row.cpu_milliseconds:.2f} | {' | '.join(shown)} | {same} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000, help="100000 takes an hour to draw on one processor")
    parser.add_argument("--side", type=int, default=320, help="long side in pixels")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.pictures, options.side, options.shards)
    text = json.dumps({name: asdict(row) for name, row in rows.items()}) if options.json else table(rows)
    sys.stdout.write(text + "\n")
    return 0 if all(row.same for row in rows.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
