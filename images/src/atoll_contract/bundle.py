"""`model.tar.gz`, as today's robot code unpacks it: flat, and the same bytes for the same files."""

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path

BUNDLE_NAME = "model.tar.gz"
INT8_NAME = "unoptimized.tflite"
EDGETPU_NAME = "model.tflite"
LABELS_NAME = "map.pbtxt"

# The mode that any user may read; no time, owner or name of a machine gets in.
_MODE = 0o644


def write_bundle(path: Path, members: Mapping[str, Path]) -> None:
    """Write the archive `path` with `members` (name to file) at its root, in the order of their names."""
    with (
        path.open("wb") as target,
        gzip.GzipFile(filename="", mode="wb", fileobj=target, compresslevel=9, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(members):
            with members[name].open("rb") as source:
                info = tarfile.TarInfo(name)
                info.size = members[name].stat().st_size
                info.mode = _MODE
                archive.addfile(info, source)
