"""Imports a bundle into a device from a file, such as one on a USB stick, without a bucket or a network.

A bundle has no manifest; one is made here, with sequence 0 and no golden images. The model goes through the same
canary and trial as any release, and stays until somebody unpins it.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from atoll_contract import keys
from atoll_contract.document import to_json
from atoll_contract.files import file_sha256
from atoll_contract.images import stated_preprocessing
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
from atoll_edge.models.bundle import Bundle, BundleError, file_resize, unpack
from atoll_edge.models.release_state import stage
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import canary_job, run_canary

NAMESPACE = "side-loaded"
# The seed's input size. A bundle does not state its own, and the canary reads it from the model.
SEED_SIDE = 300


def import_bundle(archive: Path, device: ReleaseStore) -> tuple[str, str]:
    """Verifies a bundle, and makes it the pinned candidate, which the running agent then tries.

    Returns the digest of its release, and its name.

    Raises:
        BundleError: it is not a bundle, or has no model for the CPU, on which the canary runs.
        Refusal: the model crashed, hung or failed its canary.
    """
    with device.adding(), tempfile.TemporaryDirectory(dir=device.temporary) as folder:
        bundle = unpack(archive, Path(folder) / "bundle")
        if bundle.cpu_path is None:
            raise BundleError(
                f"{archive.name} lacks {INT8_NAME}: without it the model cannot be tried before it serves"
            )
        labels = Path(folder) / LABELS_NAME
        labels.write_text(format_label_map(bundle.labels), "utf-8")
        files = _add_blobs(bundle, labels, device)
        manifest = _manifest(archive, bundle, files)
        run_canary(canary_job(manifest, device.blob_path), name=archive.name)
        data = to_json(manifest)
        release = hashlib.sha256(data).hexdigest()
        device.add_release(release, data)
        device.change(lambda state: stage(state, release, pin=True))
    return release, manifest.release


def _add_blobs(bundle: Bundle, labels: Path, device: ReleaseStore) -> tuple[ManifestFile, ...]:
    """Copies the files into the blobs."""
    assert bundle.cpu_path is not None
    sources = [(Role.MODEL_INT8, INT8_NAME, bundle.cpu_path), (Role.LABELS, LABELS_NAME, labels)]
    if bundle.edgetpu_path is not None:
        sources.append((Role.MODEL_EDGETPU, EDGETPU_NAME, bundle.edgetpu_path))
    files = []
    for role, name, path in sources:
        digest = file_sha256(path)
        files.append(ManifestFile(role, name, keys.blob(digest), digest, path.stat().st_size))
        if not device.has_blob(digest):
            copy = path.with_name(f"{name}.copy")
            shutil.copyfile(path, copy)
            device.add_blob(copy, digest)
    return tuple(files)


def _manifest(archive: Path, bundle: Bundle, files: tuple[ManifestFile, ...]) -> Manifest:
    assert bundle.cpu_path is not None
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
        preprocessing=stated_preprocessing(file_resize(bundle.cpu_path)),
    )
