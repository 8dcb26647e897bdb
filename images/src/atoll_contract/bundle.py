"""`model.tar.gz`, as today's robot code unpacks it: flat, and the same bytes for the same files."""

import gzip
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from atoll_contract.archive import extract
from atoll_contract.stage import DatasetLimits

BUNDLE_NAME = "model.tar.gz"
INT8_NAME = "unoptimized.tflite"
EDGETPU_NAME = "model.tflite"
LABELS_NAME = "map.pbtxt"

# Older bundles also hold the training's logs, which are passed over.
LIMITS = DatasetLimits(archive_bytes=512 * 2**20, expanded_bytes=2**30, member_bytes=256 * 2**20, members=64)

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


def unpack_bundle(archive: Path, folder: Path) -> dict[str, Path]:
    """The models and the label map of a bundle, of whatever age, by name; as files in `folder` (created).

    Raises:
        AtollError: not an archive, unsafe or too large.
    """
    folder.mkdir(parents=True)
    found: dict[str, Path] = {}
    with extract(archive, folder / "members", LIMITS) as members:
        for name in (INT8_NAME, EDGETPU_NAME, LABELS_NAME):
            held = members.by_base(name)
            if held:
                found[name] = Path(shutil.copyfile(held[0].path, folder / name))
    shutil.rmtree(folder / "members")
    return found
