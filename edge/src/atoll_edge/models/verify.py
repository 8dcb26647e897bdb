"""What a release must show before any of its bytes is parsed as a model: digest, signature, sequence, fitness.

A manifest never expires: a device without a clock of its own must be able to check it on a field without network.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import AtollError, Reason
from atoll_contract.labelmap import LabelMapError, parse_label_map
from atoll_contract.release import Manifest, ManifestFile, Role
from atoll_contract.signing import verify
from atoll_edge.config import Verify
from atoll_edge.models.release_state import DeviceState, Refusal

# The runtime of libedgetpu 16.0, the newest there is.
EDGETPU_RUNTIME = 14
MAX_MODEL_BYTES = 256 * 2**20
MAX_SIDE = 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Expectation:
    """What the device takes: one model of one namespace, signed as `verify` says by one of `public_keys` (PEM),
    which are read anew for each proof."""

    namespace: str
    model: str
    verify: Verify
    public_keys: Callable[[], Sequence[bytes]] = tuple

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.model}"


def prove_manifest(
    data: bytes, envelope: bytes | None, *, expected: Expectation, state: DeviceState, sha256: str
) -> Manifest:
    """The manifest `data`, after everything that can be said without its files.

    Raises:
        Refusal: why not.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Refusal(
            Reason.INTEGRITY_MISMATCH,
            f"the manifest has sha256 {found[:16]}…, the channel says {sha256[:16]}…",
        )
    if expected.verify is Verify.REQUIRED:
        _require_signature(data, envelope, expected.public_keys())
    try:
        manifest = from_json(Manifest, data)
    except DecodeError as error:
        raise Refusal(Reason.INTEGRITY_MISMATCH, f"the manifest cannot be read: {error}") from None
    _require_fit(manifest, expected)
    _require_newer(manifest, expected, state, sha256)
    return manifest


def _require_signature(data: bytes, envelope: bytes | None, public_keys: Sequence[bytes]) -> None:
    if not public_keys:
        raise Refusal(
            Reason.SIGNATURE_INVALID,
            "signatures are required but no public key is configured: set model.publicKeyFiles, or verify: digest-only",
        )
    if envelope is None:
        raise Refusal(Reason.SIGNATURE_INVALID, "the release is not signed, and verify is `required`")
    try:
        verify(envelope, data, public_keys)
    except AtollError as error:
        raise Refusal(error.reason, error.message) from None


def _require_fit(manifest: Manifest, expected: Expectation) -> None:
    named = f"{manifest.namespace}/{manifest.model}"
    if named != expected.key:
        raise Refusal(Reason.INTEGRITY_MISMATCH, f"the manifest is of {named}, this device runs {expected.key}")
    size = manifest.input
    if size.dtype != "uint8" or size.channels != 3 or size.width != size.height or not 0 < size.width <= MAX_SIDE:
        raise Refusal(
            Reason.INTEGRITY_MISMATCH,
            f"the model takes {size.width}×{size.height}×{size.channels} {size.dtype}; "
            f"this device gives squares of uint8 RGB up to {MAX_SIDE}",
        )
    if not manifest.labels or len(manifest.labels) != len(manifest.thresholds):
        raise Refusal(
            Reason.INTEGRITY_MISMATCH,
            f"the manifest has {len(manifest.labels)} labels and {len(manifest.thresholds)} thresholds",
        )
    _require_files(manifest)
    runtime = manifest.edgetpu.min_runtime_version
    if manifest.file(Role.MODEL_EDGETPU) is not None and runtime is not None and runtime > EDGETPU_RUNTIME:
        raise Refusal(
            Reason.COMPILE_FAILED, f"the model requires Edge TPU runtime ≥ {runtime}, this device has {EDGETPU_RUNTIME}"
        )


def _require_files(manifest: Manifest) -> None:
    for role in (Role.MODEL_INT8, Role.LABELS):
        if manifest.file(role) is None:
            raise Refusal(Reason.INTEGRITY_MISMATCH, f"the manifest names no file of role {role}")
    for item in manifest.files:
        if not _DIGEST.fullmatch(item.sha256) or not 0 <= item.size <= MAX_MODEL_BYTES:
            raise Refusal(
                Reason.INTEGRITY_MISMATCH,
                f"{item.name}: sha256 {item.sha256[:70]!r} or size {item.size} is out of range",
            )


def _require_newer(manifest: Manifest, expected: Expectation, state: DeviceState, sha256: str) -> None:
    highest = state.sequences.get(expected.key, 0)
    if manifest.sequence < highest:
        raise Refusal(Reason.VERSION_CONFLICT, f"refused: sequence {manifest.sequence} < {highest}")
    if manifest.sequence == highest and sha256 not in (state.current, state.previous):
        raise Refusal(
            Reason.VERSION_CONFLICT, f"refused: sequence {manifest.sequence} served already, with another manifest"
        )


def require_digest(item: ManifestFile, path: Path) -> None:
    """Size and sha256 of a downloaded file.

    Raises:
        Refusal: they differ.
    """
    from atoll_contract.files import file_sha256

    size = path.stat().st_size
    if size != item.size:
        raise Refusal(Reason.INTEGRITY_MISMATCH, f"{item.name} has {size} bytes, the manifest says {item.size}")
    found = file_sha256(path)
    if found != item.sha256:
        raise Refusal(
            Reason.INTEGRITY_MISMATCH,
            f"{item.name} has sha256 {found[:16]}…, the manifest says {item.sha256[:16]}…",
        )


def require_labels(manifest: Manifest, path: Path) -> None:
    """The label map says what the manifest says.

    Raises:
        Refusal: it does not.
    """
    try:
        names = tuple(label.name for label in parse_label_map(path.read_text("utf-8")))
    except (LabelMapError, UnicodeDecodeError) as error:
        raise Refusal(Reason.INTEGRITY_MISMATCH, f"map.pbtxt: {error}") from None
    if names != manifest.labels:
        raise Refusal(
            Reason.INTEGRITY_MISMATCH, f"map.pbtxt names {list(names)[:8]}, the manifest {list(manifest.labels)[:8]}"
        )
