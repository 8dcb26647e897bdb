"""Packs a user's folder as a tar: the same bytes for the same files, without litter, and no link followed."""

import tarfile
import tempfile
from pathlib import Path

from atoll_contract.archive.extract import extract
from atoll_contract.archive.members import Member
from atoll_contract.stage import DatasetLimits

_MODE = 0o644


def pack_folder(folder: Path, target: Path, limits: DatasetLimits) -> None:
    """Writes everything in `folder` into the new tar `target`, under the limits of an archive.

    Raises:
        DatasetError: the folder is empty or over a limit, or holds a link, a special file or a name that is not safe.
    """
    with (
        tempfile.TemporaryDirectory(prefix="atoll-pack-") as scratch,
        extract(folder, Path(scratch) / "index", limits, name=str(folder)) as members,
        tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member in members:
            with member.path.open("rb") as file:
                archive.addfile(_header(member), file)


def _header(member: Member) -> tarfile.TarInfo:
    """A header without owner and time, which differ from machine to machine."""
    header = tarfile.TarInfo(member.name)
    header.size, header.mode = member.size, _MODE
    return header
