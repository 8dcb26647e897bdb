"""What a device takes of a release: its files, and the widths of its objects."""

from atoll_contract.release import Manifest, ManifestFile, Role
from atoll_edge.config import MAX_OBJECT_WIDTH, MIN_OBJECT_WIDTH
from atoll_edge.detector.backends.base import Backend

# The roles that every device needs; none downloads reports and bundles.
NEEDED = frozenset({Role.MODEL_INT8, Role.MODEL_EDGETPU, Role.LABELS, Role.GOLDEN})


def needed_files(manifest: Manifest, chip: str | None = None) -> tuple[ManifestFile, ...]:
    """Returns the files of a release that a device with this chip needs."""
    needed = tuple(item for item in manifest.files if item.role in NEEDED)
    compiled = chip_file(manifest, chip)
    if compiled is None:
        return needed
    return (*needed, compiled, *(item for item in manifest.files if item.role is Role.DETECTOR))


def chip_file(manifest: Manifest, chip: str | None) -> ManifestFile | None:
    """Returns the file that `rknn-toolkit2` compiled for this chip; None where the release holds none. Qualcomm's NPUs
    run the int8 file."""
    compiled = (item for item in manifest.files if item.role is Role.MODEL_COMPILED and item.target == Backend.RKNN)
    return next((item for item in compiled if item.chip == chip), None) if chip else None


def known_widths(manifest: Manifest) -> tuple[tuple[str, float], ...]:
    """Returns the true widths of objects, in metres, by label; those that no object has are left out."""
    widths = manifest.object_widths or {}
    return tuple((label, width) for label, width in widths.items() if MIN_OBJECT_WIDTH <= width <= MAX_OBJECT_WIDTH)
