"""A published version: its immutable manifest, the channel that points to it, a device's report, and the bundle."""

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
from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.document import Document
from atoll_contract.errors import SpecError
from atoll_contract.images import Preprocessing, Resize
from atoll_contract.keys import RunRef
from atoll_contract.rollout import RolloutPlan

_RELEASE = re.compile(r"([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)-v([1-9][0-9]{0,8})")
BUNDLE_NAME = "model.tar.gz"
INT8_NAME = "unoptimized.tflite"
EDGETPU_NAME = "model.tflite"
# The compile target that the first versions knew alone.
EDGETPU = "edgetpu"
LABELS_NAME = "map.pbtxt"
# The label map, or the file that models of Coral and Teachable Machine have in its place.
LABEL_FILES = (LABELS_NAME, "labels.txt")

# Older bundles also have the training's logs, which are ignored.
LIMITS = DatasetLimits(archive_bytes=512 * 2**20, expanded_bytes=2**30, member_bytes=256 * 2**20, members=64)

# Readable by every user. The archive has no times, owners or names of machines.
_MODE = 0o644


def compile_artifact(target: str, name: str) -> str:
    """The name of an artifact of the compile stage. Those of the Edge TPU have no prefix: it was the only target."""
    return name if target == EDGETPU else f"{target}.{name}"


def release_parts(release: str) -> tuple[str, int]:
    """Splits the name of a release into model and version.

    Raises:
        SpecError: it is not the name of a release.
    """
    named = _RELEASE.fullmatch(release)
    if named is None:
        raise SpecError(f"{release!r} is no release; write <model>-v<number>, as note-v3 (see atoll releases)")
    return named[1], int(named[2])


class Role(StrEnum):
    """What a file of a release is for."""

    MODEL_INT8 = "model-int8"
    MODEL_EDGETPU = "model-edgetpu"
    # For another accelerator; `ManifestFile.target` says which.
    MODEL_COMPILED = "model-compiled"
    # How the outputs of these compiled models become boxes, see `detector_head`.
    DETECTOR = "detector"
    LABELS = "labels"
    GOLDEN = "golden"
    BUNDLE = "bundle"
    REPORT = "report"
    METRICS = "metrics"
    CHECKPOINT = "checkpoint"
    # Any that only a later version knows.
    OTHER = "other"


class Detection(Document, frozen=True):
    """One box. `class_id` counts from 0; `box` is [ymin, xmin, ymax, xmax] relative to the image, 0…1."""

    class_id: int
    score: float
    box: tuple[float, ...]


class ManifestFile(Document, frozen=True):
    """A file of the release: content-addressed `key`, hex sha256, size in bytes; for a golden image also the detections
    of the int8 model."""

    role: Role
    name: str
    key: str
    sha256: str
    size: int
    media_type: str = "application/octet-stream"
    expected: tuple[Detection, ...] | None = None
    # The compile target of a compiled model; None for the Edge TPU's, which its role names.
    target: str | None = None

    @property
    def chip(self) -> str | None:
        """The chip of a compiled model, which its name has, as in `model-rk3588.rknn`."""
        stem, dash, chip = self.name.rpartition(".")[0].partition("-")
        return chip if dash and stem == "model" else None


class ModelInput(Document, frozen=True):
    """The input of the model: RGB bytes, resized to width × height by `images.resize`; `Manifest.resize` says how."""

    width: int
    height: int
    channels: int = 3
    dtype: str = "uint8"


class EdgeTpu(Document, frozen=True):
    """The compiler's result. `mapped_percent` comes from its log; None where nothing was compiled."""

    compiled: bool
    compiler_version: str | None = None
    min_runtime_version: int | None = None
    mapped_percent: float | None = None
    predicted_mapped_percent: float | None = None


class TargetResult(Document, frozen=True):
    """What came of one compile target. `figures_source` is `simulator` or `predicted`; None where nothing was compiled,
    or nothing measured."""

    target: str
    compiled: bool
    chip: str | None = None
    compiler_version: str | None = None
    mapped_percent: float | None = None
    ap50: float | None = None
    ap: float | None = None
    figures_source: str | None = None
    reason: str | None = None

    @property
    def text(self) -> str:
        """The result in a word."""
        if not self.compiled:
            return "not compiled"
        if self.ap50 is not None and self.figures_source == "simulator":
            return f"{self.ap50:.2f}"
        return "compiled" if self.mapped_percent is None else f"{self.mapped_percent:.0f}%"


class Manifest(Document, frozen=True):
    """One immutable version of a model. `sequence` equals `version`; a device never goes back to a lower one."""

    namespace: str
    model: str
    version: int
    sequence: int
    created_at: str
    run: RunRef
    input: ModelInput
    labels: tuple[str, ...]
    # Minimum score of a detection by class, in the order of `labels`.
    thresholds: tuple[float, ...]
    files: tuple[ManifestFile, ...]
    edgetpu: EdgeTpu
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    # The channel that this version was published to; it points to the highest version published to it.
    channel: str = "stable"
    # None where every device takes the version at once, so that older devices read the manifest.
    rollout: RolloutPlan | None = None
    # Every compile target of the run; None where that was the Edge TPU alone, so that devices with an agent that knows
    # no other go on with such releases.
    targets: tuple[TargetResult, ...] | None = None
    # How wide objects are in truth, in metres, by label; None where no width is known.
    object_widths: Mapping[str, float] | None = None
    # None where images are squashed, as every release of older versions does.
    preprocessing: Preprocessing | None = None
    schema_version: int = 1

    @property
    def resize(self) -> Resize:
        """How images become the input."""
        return self.preprocessing.resize if self.preprocessing else Resize.SQUASH

    @property
    def results(self) -> tuple[TargetResult, ...]:
        """Every compile target, also of a manifest that names the Edge TPU alone."""
        known = self.edgetpu
        alone = TargetResult(EDGETPU, known.compiled, None, known.compiler_version, known.mapped_percent)
        return self.targets if self.targets is not None else (alone,)

    @property
    def targets_text(self) -> str:
        """What came of the compile targets, in a line; that of the Edge TPU alone has no name."""
        if self.targets is None:
            return self.results[0].text
        return ", ".join(f"{item.target} {item.text}" for item in self.results)

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
    """A pointer to a manifest. It is not signed: devices compare the sequences of the manifests."""

    namespace: str
    model: str
    channel: str
    version: int
    sequence: int
    manifest: ManifestRef
    updated_at: str
    schema_version: int = 1


class DeviceReport(Document, frozen=True):
    """The report of a device. Times are RFC 3339 by the device's own clock. `failed_version` is the channel's version
    where it failed its self-test or probation on this device; `wave` and `rollout` are of the version that it waits
    for: the step that reaches it, and waiting, paused or halted."""

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
    failed_version: int | None = None
    wave: int | None = None
    rollout: str | None = None
    schema_version: int = 1


def write_bundle(path: Path, members: Mapping[str, Path]) -> None:
    """Writes the archive `path` with `members` (name to file) at its root, sorted by name."""
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
    """Extracts the models and the labels of a bundle of any age into `folder`, which is created; files by name.

    Raises:
        AtollError: not an archive, unsafe or too large.
    """
    folder.mkdir(parents=True)
    found: dict[str, Path] = {}
    with extract(archive, folder / "members", LIMITS) as members:
        for name in (INT8_NAME, EDGETPU_NAME, *LABEL_FILES):
            held = members.by_base(name)
            if held:
                found[name] = folder / name
                with held[0].open() as file, found[name].open("xb") as copy:
                    shutil.copyfileobj(file, copy)
    shutil.rmtree(folder / "members")
    return found
