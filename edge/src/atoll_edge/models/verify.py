"""Verification of a release: its manifest, signature, sequence, files and labels, and a canary run of its model.

Only the canary parses the model, in a child process, after all other checks. A
manifest never expires: a device without a clock must be able to check it on a field without a network.
"""

import hashlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import AtollError, Reason
from atoll_contract.files import file_sha256
from atoll_contract.labelmap import LabelMapError, parse_label_map
from atoll_contract.release import Manifest, ManifestFile, Role
from atoll_contract.signing import verify
from atoll_edge.config import Verify
from atoll_edge.detector.backends.base import Backend
from atoll_edge.models.canary_worker import CanaryJob, GoldenImage
from atoll_edge.models.release_state import DeviceState, Refusal
from atoll_edge.system import describe_exit

logger = logging.getLogger(__name__)

# The runtime version of libedgetpu 16.0, the newest release.
EDGETPU_RUNTIME = 14
MAX_MODEL_BYTES = 256 * 2**20
MAX_SIDE = 1024
CANARY_SECONDS = 60.0
CANARY_COMMAND = (sys.executable, "-P", "-m", "atoll_edge.models.canary_worker")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ExpectedRelease:
    """What the device accepts: one model of one namespace, signed as `verify` says by one of `public_keys` (PEM),
    which are read anew for each release."""

    namespace: str
    model: str
    verify: Verify
    public_keys: Callable[[], Sequence[bytes]] = tuple

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.model}"


def verify_manifest(
    data: bytes, envelope: bytes | None, *, expected: ExpectedRelease, state: DeviceState, sha256: str
) -> Manifest:
    """Decodes the manifest `data` after all checks that need none of its files; `envelope` holds the signature.

    Raises:
        Refusal: a check failed.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise _mismatch(f"the manifest has sha256 {found[:16]}…, the channel says {sha256[:16]}…")
    if expected.verify is Verify.REQUIRED:
        _require_signature(data, envelope, expected.public_keys())
    try:
        # What only a later version knows is none of this device's business.
        manifest = from_json(Manifest, data, skip_unknown=True, fallbacks={Role: Role.OTHER})
    except DecodeError as error:
        raise _mismatch(f"the manifest cannot be read: {error}") from None
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


def _require_fit(manifest: Manifest, expected: ExpectedRelease) -> None:
    named = f"{manifest.namespace}/{manifest.model}"
    if named != expected.key:
        raise _mismatch(f"the manifest is of {named}, this device runs {expected.key}")
    size = manifest.input
    if size.dtype != "uint8" or size.channels != 3 or size.width != size.height or not 0 < size.width <= MAX_SIDE:
        raise _mismatch(
            f"the model takes {size.width}×{size.height}×{size.channels} {size.dtype}; "
            f"this device gives squares of uint8 RGB up to {MAX_SIDE}"
        )
    if not manifest.labels or len(manifest.labels) != len(manifest.thresholds):
        raise _mismatch(f"the manifest has {len(manifest.labels)} labels and {len(manifest.thresholds)} thresholds")
    _require_files(manifest)
    runtime = manifest.edgetpu.min_runtime_version
    if manifest.file(Role.MODEL_EDGETPU) is not None and runtime is not None and runtime > EDGETPU_RUNTIME:
        raise Refusal(
            Reason.COMPILE_FAILED, f"the model requires Edge TPU runtime ≥ {runtime}, this device has {EDGETPU_RUNTIME}"
        )


def _require_files(manifest: Manifest) -> None:
    for role in (Role.MODEL_INT8, Role.LABELS):
        if manifest.file(role) is None:
            raise _mismatch(f"the manifest names no file of role {role}")
    for item in manifest.files:
        if not _DIGEST.fullmatch(item.sha256) or not 0 <= item.size <= MAX_MODEL_BYTES:
            raise _mismatch(f"{item.name}: sha256 {item.sha256[:70]!r} or size {item.size} is out of range")


def _require_newer(manifest: Manifest, expected: ExpectedRelease, state: DeviceState, sha256: str) -> None:
    highest = state.sequences.get(expected.key, 0)
    if manifest.sequence < highest:
        raise Refusal(Reason.VERSION_CONFLICT, f"refused: sequence {manifest.sequence} < {highest}")
    if manifest.sequence == highest and not state.is_known(sha256):
        raise Refusal(
            Reason.VERSION_CONFLICT, f"refused: sequence {manifest.sequence} served already, with another manifest"
        )


def require_digest(item: ManifestFile, path: Path) -> None:
    """Compares the size and sha256 of a downloaded file with the manifest.

    Raises:
        Refusal: they differ.
    """
    size = path.stat().st_size
    if size != item.size:
        raise _mismatch(f"{item.name} has {size} bytes, the manifest says {item.size}")
    found = file_sha256(path)
    if found != item.sha256:
        raise _mismatch(f"{item.name} has sha256 {found[:16]}…, the manifest says {item.sha256[:16]}…")


def require_labels(manifest: Manifest, path: Path) -> None:
    """Compares the label map with the labels of the manifest.

    Raises:
        Refusal: they differ.
    """
    try:
        names = tuple(label.name for label in parse_label_map(path.read_text("utf-8")))
    except (LabelMapError, UnicodeDecodeError) as error:
        raise _mismatch(f"map.pbtxt: {error}") from None
    if names != manifest.labels:
        raise _mismatch(f"map.pbtxt names {list(names)[:8]}, the manifest {list(manifest.labels)[:8]}")


def canary_job(
    manifest: Manifest, blob: Callable[[str], Path], *, backend: Backend = Backend.CPU, path: Path | None = None
) -> CanaryJob:
    """Describes the canary run of a release; `blob` returns the path of a file by its digest. `path` is the file for
    `backend`, by default the int8 file."""
    model = manifest.file(Role.MODEL_INT8)
    assert model is not None
    golden = tuple(
        GoldenImage(str(blob(item.sha256)), item.expected)
        for item in manifest.files
        if item.role is Role.GOLDEN and item.expected is not None
    )
    # The manifest that an import makes for a bundle does not know the input size.
    side = manifest.input.width if golden or manifest.sequence else None
    return CanaryJob(str(path or blob(model.sha256)), len(manifest.labels), side, golden, manifest.resize, backend)


def run_canary(
    job: CanaryJob, *, name: str, timeout_seconds: float = CANARY_SECONDS, command: Sequence[str] = CANARY_COMMAND
) -> None:
    """Runs a model in a child process on noise and on the release's golden images.

    A backend that cannot load the file is a matter of this device: the detector goes on with the next one, or says it.

    Raises:
        Refusal: it crashed, hung or gave wrong results; the text calls the model `name`.
    """
    try:
        child = subprocess.run(command, input=to_json(job), capture_output=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired:
        raise _mismatch(f"{name} hung in its self-test ({timeout_seconds:g} s)") from None
    if child.returncode != 0:
        raise _mismatch(f"{name} crashed its self-test ({describe_exit(child.returncode)})")
    try:
        # A native library may have printed lines before the result.
        answer = json.loads(child.stdout.splitlines()[-1])
        error = answer["error"]
    except (ValueError, LookupError):
        raise _mismatch(f"{name} made its self-test answer nonsense") from None
    if error is not None and answer.get("loaded") is False and job.backend is not Backend.CPU:
        logger.warning("%s was not tried: %s", name, error)
    elif error is not None:
        raise _mismatch(f"{name} failed its self-test: {error}")


def _mismatch(message: str) -> Refusal:
    return Refusal(Reason.INTEGRITY_MISMATCH, message)
