"""Memory does not grow with the dataset, nor with archive bombs."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.archives import annotation, jpeg, packed, rectangle, supervisely

MEASURE = """
import sys
from pathlib import Path
from atoll_contract.stage import ConvertSpec
from atoll_stages.convert.pipeline import Source, read_dataset, summarize
from atoll_stages.convert.shards import write_shards
work = Path(sys.argv[2])
with read_dataset([Source("x.tar", Path(sys.argv[1]))], ConvertSpec(sources=()), work) as conversion:
    summary = summarize(conversion)
    for split in summary.statistics.splits:
        for file in write_shards(conversion.store, split, work, classes=summary.classes, sources=["x.tar"]):
            file.path.unlink()
print(peak(), summary.statistics.images.total())
"""


# `ru_maxrss` would count what the test process had before the exec.
PEAK = """
import re
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024
"""


def peak_mebibytes(program: str, *arguments: Path) -> tuple[int, int]:
    """What the program printed: its peak memory, and a count."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    done = subprocess.run(
        [sys.executable, "-P", "-c", PEAK + program, *map(str, arguments)], capture_output=True, check=True, timeout=280
    )
    peak, count = done.stdout.split()
    return int(peak), int(count)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_memory_is_flat_however_many_pictures(tmp_path: Path) -> None:
    peaks = {}
    same = jpeg(1)
    for count in (200, 2000):
        files = supervisely(1)
        for number in range(count):
            name = f"frame_{number:06d}.jpg"
            # A comment of its own makes each file differ without drawing a new picture.
            files[f"game/ds0/img/{name}"] = same[:2] + b"\xff\xfe\x00\x0a%08d" % number + same[2:]
            files[f"game/ds0/ann/{name}.json"] = annotation([rectangle("note", 4, 5, 34, 40)] * 20)
        archive = tmp_path / f"{count}.tar"
        archive.write_bytes(packed(files, ".tar"))
        peaks[count], found = peak_mebibytes(MEASURE, archive, tmp_path / str(count))
        assert found == count + 1
    assert peaks[2000] - peaks[200] < 20, peaks


EXTRACT = """
import sys
from pathlib import Path
from atoll_contract.archive.extract import extract
from atoll_contract.errors import DatasetError
from atoll_contract.convert_spec import DatasetLimits
try:
    extract(Path(sys.argv[1]), Path(sys.argv[2]), DatasetLimits())
    refused = 0
except DatasetError:
    refused = 1
print(peak(), refused)
"""


def test_D4_memory_stays_flat_under_bombs(tmp_path: Path) -> None:
    from support.archives import TAR_END, gzip_bytes, pax_member, tar_member, zip_bytes

    bombs = {
        "pax.tar.gz": gzip_bytes(pax_member({"comment": bytes(128 * 2**20)}) + tar_member(b"a") + TAR_END),
        "zeros.tar.gz": gzip_bytes(tar_member(b"a", bytes(128 * 2**20)) + TAR_END),
        "zeros.zip": zip_bytes({"a": bytes(128 * 2**20)}),
    }
    for name, data in bombs.items():
        path = tmp_path / name
        path.write_bytes(data)
        peak, refused = peak_mebibytes(EXTRACT, path, tmp_path / f"{name}.out")
        assert refused == 1
        assert peak < 100, (name, peak)
