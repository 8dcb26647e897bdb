"""The files of a release: fetched from the earlier stages, checked, bundled for robot code, and put into the store."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from atoll_contract import keys
from atoll_contract.detector_head import HEAD_NAME
from atoll_contract.errors import IntegrityError
from atoll_contract.files import file_sha256
from atoll_contract.release import BUNDLE_NAME, EDGETPU_NAME, INT8_NAME, LABELS_NAME, Role, write_bundle
from atoll_contract.stage import Stage, StageInput
from atoll_contract.stage_result import Artifact
from atoll_contract.store.base import BLOB_GRACE_SECONDS, ObjectInfo, ObjectNotFound, Store
from atoll_contract.tflite import TfliteError, read_model
from atoll_stages.runtime.context import StageContext

logger = logging.getLogger(__name__)

_MEDIA_TYPES = {
    ".tflite": "application/octet-stream",
    ".pbtxt": "text/plain",
    ".png": "image/png",
    ".html": "text/html",
    ".json": "application/json",
    ".gz": "application/gzip",
    ".h5": "application/x-hdf5",
}


@dataclass(frozen=True)
class ReleaseFile:
    """A file of a release; its name in the release is that of `path`."""

    role: Role
    path: Path
    sha256: str
    size: int
    # The compile target of a compiled model, other than the Edge TPU.
    target: str | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES.get(self.path.suffix, "application/octet-stream")


def fetch_files(context: StageContext) -> list[ReleaseFile]:
    """Fetches the files of the release and makes its bundle.

    Raises:
        SpecError: export left no model or no label map.
        IntegrityError: a file is not the one that its stage reported, or a model cannot be read.
    """
    found = [
        _release_file(role, context.fetch(artifact, context.work / name))
        for role, artifact, name in _select_artifacts(context.input)
    ]
    others = other_targets(context.input, "compiled")
    head = optional_artifact(context.input, Stage.EXPORT, "detector") if others else None
    if head is not None:
        found.append(_release_file(Role.DETECTOR, context.fetch(head, context.work / HEAD_NAME)))
    for target, artifact in others.items():
        path = context.fetch(artifact, context.work / artifact.key.rpartition("/")[2])
        found.append(replace(_release_file(Role.MODEL_COMPILED, path), target=target))
    for file in found:
        if file.role in (Role.MODEL_INT8, Role.MODEL_EDGETPU):
            _require_model(file)
    bundle = context.work / BUNDLE_NAME
    bundled = (Role.MODEL_INT8, Role.MODEL_EDGETPU, Role.LABELS)
    write_bundle(bundle, {file.name: file.path for file in found if file.role in bundled})
    return [*found, _release_file(Role.BUNDLE, bundle)]


def optional_artifact(given: StageInput, stage: Stage, name: str) -> Artifact | None:
    """Returns the artifact `name` of an earlier stage; None where it left none."""
    return next((item for item in given.upstream.get(stage, ()) if item.name == name), None)


def other_targets(given: StageInput, name: str) -> dict[str, Artifact]:
    """Returns the artifact `name` of each compile target but the Edge TPU, where it left one."""
    compiled = ((item.name.rpartition("."), item) for item in given.upstream.get(Stage.COMPILE, ()))
    return {target: item for (target, dot, own), item in compiled if dot and own == name}


def _select_artifacts(given: StageInput) -> Iterator[tuple[Role, Artifact, str]]:
    """Yields the role, the artifact and the file name of each file of the release."""
    yield Role.MODEL_INT8, given.artifact(Stage.EXPORT, "model"), INT8_NAME
    compiled = optional_artifact(given, Stage.COMPILE, "compiled")
    if compiled is not None:
        yield Role.MODEL_EDGETPU, compiled, EDGETPU_NAME
    yield Role.LABELS, given.artifact(Stage.EXPORT, "labels"), LABELS_NAME
    for artifact in given.upstream.get(Stage.EXPORT, ()):
        if artifact.name.startswith("golden-"):
            yield Role.GOLDEN, artifact, artifact.name
    for role, stage, name, file in (
        (Role.METRICS, Stage.EXPORT, "metrics", "metrics.json"),
        (Role.REPORT, Stage.EXPORT, "report", "report.html"),
        (Role.CHECKPOINT, Stage.TRAIN, "weights", "model.weights.h5"),
    ):
        found = optional_artifact(given, stage, name)
        if found is not None:
            yield role, found, file


def _release_file(role: Role, path: Path) -> ReleaseFile:
    return ReleaseFile(role, path, file_sha256(path), path.stat().st_size)


def _require_model(file: ReleaseFile) -> None:
    """Raises IntegrityError where the file is not a model, or is not compiled as its role says."""
    try:
        model = read_model(file.path.read_bytes())
    except TfliteError as error:
        raise IntegrityError(f"{file.name}: {error}") from None
    if model.is_compiled_for_edgetpu is not (file.role is Role.MODEL_EDGETPU):
        holds = "holds" if model.is_compiled_for_edgetpu else "does not hold"
        raise IntegrityError(f"{file.name} {holds} compiled Edge TPU code, against what its stage reported")


def put_blobs(store: Store, files: Iterable[ReleaseFile], *, scratch: Path) -> None:
    """Puts every file at the key of its digest, and reads each back.

    Raises:
        IntegrityError: the store returns other bytes than it was given.
    """
    for file in files:
        if _is_stored(store, file, scratch=scratch):
            logger.info("%s is in the store already: %s", file.name, file.sha256)
            continue
        store.upload(keys.blob(file.sha256), file.path)
        _read_back(store, file, scratch=scratch)


def _is_stored(store: Store, file: ReleaseFile, *, scratch: Path) -> bool:
    key = keys.blob(file.sha256)
    info = next((item for item in store.list(key) if item.key == key), None)
    if info is None or info.size != file.size or _may_be_pruned(info):
        return False
    try:
        _read_back(store, file, scratch=scratch)
    except (IntegrityError, ObjectNotFound) as error:
        logger.warning("the blob of %s is damaged and is written anew: %s", file.name, error)
        return False
    return True


def _may_be_pruned(info: ObjectInfo) -> bool:
    """Returns whether `atoll prune` may delete the blob as an unused one before the manifest names it."""
    age = datetime.now(UTC).timestamp() - (info.modified_at or 0.0)
    return age > BLOB_GRACE_SECONDS / 2


def _read_back(store: Store, file: ReleaseFile, *, scratch: Path) -> None:
    # Not every server checks what it receives, and devices read what it stored.
    copy = scratch / "read-back"
    try:
        store.download(keys.blob(file.sha256), copy, sha256=file.sha256)
    finally:
        copy.unlink(missing_ok=True)
