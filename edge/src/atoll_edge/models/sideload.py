"""Bringing a bundle to a device by hand: from a USB stick, with no store and no network.

A bundle has no manifest; one is made here, with sequence 0 and no golden pictures. It takes the same canary and the
same probation as any release, and stays until somebody unpins it.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from atoll_contract import keys
from atoll_contract.document import to_json
from atoll_contract.files import file_sha256
from atoll_contract.keys import RunRef
from atoll_contract.labelmap import format_label_map
from atoll_contract.release import (
    EDGETPU_NAME,
    INT8_NAME,
    LABELS_NAME,
    EdgeTpu,
    Manifest,
    ManifestFile,
    ModelInput,
    Role,
)
from atoll_edge.detector.model import DEFAULT_THRESHOLD
from atoll_edge.models.bundle import Bundle, BundleError, unpack
from atoll_edge.models.canary import canary_job, run_canary
from atoll_edge.models.release_state import staged
from atoll_edge.models.release_store import DeviceStore

NAMESPACE = "side-loaded"
# The seed's; a bundle does not say, and the canary reads the true one from the model.
SEED_SIDE = 300


def import_bundle(archive: Path, device: DeviceStore) -> tuple[str, str]:
    """Prove the bundle and stage it, pinned; the digest of its release and its name. The agent takes it up.

    Raises:
        BundleError: it is no bundle, or has no model for the CPU, on which it could be tried.
        Refusal: it crashed, hung or answered nonsense.
    """
    with device.fetching(), tempfile.TemporaryDirectory(dir=device.temporary) as folder:
        bundle = unpack(archive, Path(folder) / "bundle")
        if bundle.cpu_path is None:
            raise BundleError(
                f"{archive.name} lacks {INT8_NAME}: without it the model cannot be tried before it serves"
            )
        labels = Path(folder) / LABELS_NAME
        labels.write_text(format_label_map(bundle.labels), "utf-8")
        files = _take(bundle, labels, device)
        manifest = _manifest(archive, bundle, files)
        run_canary(canary_job(manifest, device.blob_path), name=archive.name)
        data = to_json(manifest)
        release = hashlib.sha256(data).hexdigest()
        device.add_release(release, data)
        device.change(lambda state: staged(state, release, pin=True))
    return release, manifest.release


def _take(bundle: Bundle, labels: Path, device: DeviceStore) -> tuple[ManifestFile, ...]:
    """Copy the files among the blobs."""
    assert bundle.cpu_path is not None
    held = [(Role.MODEL_INT8, INT8_NAME, bundle.cpu_path), (Role.LABELS, LABELS_NAME, labels)]
    if bundle.edgetpu_path is not None:
        held.append((Role.MODEL_EDGETPU, EDGETPU_NAME, bundle.edgetpu_path))
    files = []
    for role, name, path in held:
        digest = file_sha256(path)
        files.append(ManifestFile(role, name, keys.blob(digest), digest, path.stat().st_size))
        if not device.has_blob(digest):
            copy = path.with_name(f"{name}.copy")
            shutil.copyfile(path, copy)
            device.add_blob(copy, digest)
    return tuple(files)


def _manifest(archive: Path, bundle: Bundle, files: tuple[ManifestFile, ...]) -> Manifest:
    name = archive.name.removesuffix(".tar.gz").removesuffix(".tgz").removesuffix(".tar").removesuffix(".zip")
    return Manifest(
        namespace=NAMESPACE,
        model=name,
        version=0,
        sequence=0,
        created_at="",
        run=RunRef(NAMESPACE, name, ""),
        input=ModelInput(SEED_SIDE, SEED_SIDE),
        labels=bundle.labels,
        thresholds=(DEFAULT_THRESHOLD,) * len(bundle.labels),
        files=files,
        edgetpu=EdgeTpu(compiled=bundle.edgetpu_path is not None),
    )
