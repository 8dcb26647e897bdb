"""A published version: the immutable manifest, the channel pointer to it, and a device's report about it."""

import gzip
import re
import shutil
import tarfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from msgspec import field

from atoll_contract.archive.extract import extract
from atoll_contract.document import Document
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.stage import DatasetLimits

_RELEASE = re.compile(r"([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)-v([1-9][0-9]{0,8})")


def release_parts(release: str) -> tuple[str, int]:
    """Model and version of a release's name.

    Raises:
        SpecError: it is no such name.
    """
    named = _RELEASE.fullmatch(release)
    if named is None:
        raise SpecError(f"{release!r} is no release; write <model>-v<number>, as note-v3 (see atoll releases)")
    return named[1], int(named[2])


class Role(StrEnum):
    """What a file of a release is for."""

    MODEL_INT8 = "model-int8"
    MODEL_EDGETPU = "model-edgetpu"
    LABELS = "labels"
    GOLDEN = "golden"
    BUNDLE = "bundle"
    REPORT = "report"
    METRICS = "metrics"
    CHECKPOINT = "checkpoint"


class Detection(Document, frozen=True):
    """One box. `class_id` counts from 0; `box` is [ymin, xmin, ymax, xmax], relative to the picture."""

    class_id: int
    score: float
    box: tuple[float, ...]


class ManifestFile(Document, frozen=True):
    """A file of the release: content-addressed `key`, hex sha256, bytes, and for golden pictures what int8 sees."""

    role: Role
    name: str
    key: str
    sha256: str
    size: int
    media_type: str = "application/octet-stream"
    expected: tuple[Detection, ...] | None = None


class ModelInput(Document, frozen=True):
    """The picture that the model takes: RGB bytes, squashed to width × height by `preprocess.resize`."""

    width: int
    height: int
    channels: int = 3
    dtype: str = "uint8"


class EdgeTpu(Document, frozen=True):
    """What the compiler said. `mapped_percent` only from its own log; None where nothing was compiled."""

    compiled: bool
    compiler_version: str | None = None
    min_runtime_version: int | None = None
    mapped_percent: float | None = None
    predicted_mapped_percent: float | None = None


class Manifest(Document, frozen=True):
    """One immutable version of a model. `sequence` equals `version`; devices never go back to a lower one."""

    namespace: str
    model: str
    version: int
    sequence: int
    created_at: str
    run: RunRef
    input: ModelInput
    labels: tuple[str, ...]
    # Score from which a class counts as seen, in label order.
    thresholds: tuple[float, ...]
    files: tuple[ManifestFile, ...]
    edgetpu: EdgeTpu
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    # The channel that this version was published to; its pointer names the highest version with its name.
    channel: str = "stable"
    schema_version: int = 1

    @property
    def release(self) -> str:
        return f"{self.model}-v{self.version}"

    def file(self, role: Role) -> ManifestFile | None:
        """The first file with this role."""
        return next((item for item in self.files if item.role is role), None)


class ManifestRef(Document, frozen=True):
    key: str
    sha256: str
    size: int


class Channel(Document, frozen=True):
    """A pointer to a manifest: a hint, untrusted; devices compare the sequences of manifests."""

    namespace: str
    model: str
    channel: str
    version: int
    sequence: int
    manifest: ManifestRef
    updated_at: str
    schema_version: int = 1


class DeviceReport(Document, frozen=True):
    """What a device says of itself. Times are RFC 3339 by the device's own clock."""

    namespace: str
    model: str
    device: str
    state: str
    reported_at: str
    channel: str
    release: str | None = None
    version: int | None = None
    manifest_sha256: str | None = None
    desired_version: int | None = None
    backend: str | None = None
    fps: float | None = None
    latency_millis: float | None = None
    free_bytes: int | None = None
    agent_version: str | None = None
    error: str | None = None
    schema_version: int = 1


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
