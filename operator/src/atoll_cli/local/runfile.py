"""The user's file: one TrainingRun and the objects that it refers to, with local defaults for those it lacks."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_cli.local.state import RunFolder, RunRecord
from atoll_contract import keys
from atoll_contract.document import replace
from atoll_contract.errors import SpecError
from atoll_operator.api import API_VERSION
from atoll_operator.api.decode import object_store, training_profile, training_run
from atoll_operator.api.manifests import Manifest, ManifestFiles, read_files
from atoll_operator.api.object_store import DIRECTORY_ANNOTATION, KeyRef, ObjectStoreSpec
from atoll_operator.api.types import Images, TrainingProfileSpec, TrainingRunSpec, violation
from atoll_operator.api.validation import check

DEFAULT_NAMESPACE = "local"
COMPILER = "edgetpu_compiler"
_THIS_MACHINE = "this-machine"


class InvalidFile(SpecError):
    """The objects of the file are not valid. Each of `lines` says in a sentence what is wrong, and where."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True)
class RunFile:
    """A run with the objects that it refers to. `document` is the run's object with its defaults and a namespace."""

    document: Mapping[str, Any]
    spec: TrainingRunSpec
    stores: Mapping[str, ObjectStoreSpec]
    profile: TrainingProfileSpec
    profile_document: Mapping[str, Any]
    # The ObjectStores that the files have, by name.
    store_documents: Mapping[str, Any]
    signing_key: Path | None = None

    @property
    def namespace(self) -> str:
        return str(self.document["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def own_store(self) -> ObjectStoreSpec:
        return self.stores[self.spec.object_store]


def read_run_file(
    paths: Iterable[Path],
    *,
    store: Path,
    seed: int | None = None,
    workers: int | None = None,
    max_invalid_percent: float | None = None,
    signing_key: Path | None = None,
) -> RunFile:
    """Read the run in `paths`. `store` is the folder for ObjectStores that the files lack; `seed`, `workers`
    and `max_invalid_percent` replace those of the run; `signing_key` signs the release if it goes to a folder store.

    Raises:
        InvalidFile: an object is not valid.
        SpecError: the files do not hold exactly one TrainingRun, or it exceeds the limits of its profile.
    """
    files = valid_files(paths)
    document = only_object(files, "TrainingRun")
    if seed is not None:
        document = _with_setting(document, "training", "seed", seed)
    if workers is not None:
        document = _with_setting(document, "training", "workers", workers)
        _check_workers(document)
    if max_invalid_percent is not None:
        document = _with_setting(document, "conversion", "maxInvalidPercent", f"{max_invalid_percent:g}")
    return with_references(document, files, store=store, signing_key=signing_key)


def valid_files(paths: Iterable[Path]) -> ManifestFiles:
    """The objects in `paths`. Raises InvalidFile where one is not valid."""
    files = read_files(paths)
    if files.problems:
        raise InvalidFile(str(problem) for problem in files.problems)
    return files


def only_object(files: ManifestFiles, kind: str) -> Mapping[str, Any]:
    """The object of the `kind` that the files are about, in a namespace.

    Raises:
        SpecError: there is none or more than one, or it has no name.
    """
    found = [item for item in files.manifests if item.is_atoll and item.kind == kind]
    if len(found) != 1:
        names = ", ".join(item.name for item in found) or "none"
        raise SpecError(f"the files hold {len(found)} {kind}s ({names}); exactly one can be run at a time")
    value = found[0].value
    if not value["metadata"].get("name"):
        raise SpecError(f"the {kind} needs metadata.name; generateName works on a cluster only")
    metadata = {**value["metadata"], "namespace": value["metadata"].get("namespace") or DEFAULT_NAMESPACE}
    return {**value, "metadata": metadata}


def with_references(
    document: Mapping[str, Any], files: ManifestFiles, *, store: Path, signing_key: Path | None = None
) -> RunFile:
    """The run of `document`, which has its defaults, with the objects of `files` that it refers to.

    Raises:
        SpecError: it exceeds the limits of its profile.
    """
    spec = training_run(document)
    profile_document = _named(files, "TrainingProfile", spec.profile) or _default_profile(spec.profile)
    found = {name: _named(files, "ObjectStore", name) for name in spec.store_names}
    stores = {name: _with_whole_path(item) for name, item in found.items() if item is not None}
    return _run_file(document, profile_document, stores, store=store, signing_key=signing_key)


def recorded_run_file(folder: RunFolder, record: RunRecord) -> RunFile:
    """The file that a run was started with, for going on with it on this machine.

    Raises:
        SpecError: an earlier version made the record, which does not say in which store the run is.
    """
    stores = record.stores
    if stores is None:
        if not (folder.store / keys.runs_prefix(folder.namespace) / record.uid).is_dir():
            raise SpecError(
                f"run {folder.name} was begun by an earlier version of Atoll, which did not record its ObjectStore; "
                "go on with its file: atoll run -f FILE"
            )
        stores = {}
    key = Path(record.signing_key) if record.signing_key is not None else None
    document = {**record.document, "spec": {**record.document["spec"], "suspend": False}}
    return _run_file(document, record.profile, stores, store=folder.store, signing_key=key)


def _run_file(
    document: Mapping[str, Any],
    profile_document: Mapping[str, Any],
    store_documents: Mapping[str, Any],
    *,
    store: Path,
    signing_key: Path | None,
) -> RunFile:
    spec = training_run(document)
    profile = _for_this_machine(training_profile(profile_document))
    if exceeded := violation(spec, profile, profile_name=spec.profile):
        raise SpecError(exceeded)
    stores = {name: _store(store_documents.get(name), folder=store) for name in spec.store_names}
    if signing_key is not None:
        signing_key = signing_key.resolve()
        key = KeyRef(name=str(signing_key.parent), key=signing_key.name)
        stores[spec.object_store] = replace(stores[spec.object_store], signing_key=key)
    return RunFile(document, spec, stores, profile, profile_document, store_documents, signing_key)


def _with_setting(document: Mapping[str, Any], section: str, name: str, value: object) -> Mapping[str, Any]:
    spec = document["spec"]
    return {**document, "spec": {**spec, section: {**spec[section], name: value}}}


def _check_workers(document: Mapping[str, Any]) -> None:
    if problems := check(document).problems:
        raise InvalidFile(f"--workers: {problem}" for problem in problems)


def _named(files: ManifestFiles, kind: str, name: str) -> Mapping[str, Any] | None:
    found = (item for item in files.manifests if item.is_atoll and item.kind == kind and item.name == name)
    manifest: Manifest | None = next(found, None)
    return manifest.value if manifest else None


def _store(document: Mapping[str, Any] | None, *, folder: Path) -> ObjectStoreSpec:
    if document is None:
        return ObjectStoreSpec(bucket="", directory=folder.resolve())
    return object_store(document)


def _with_whole_path(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ObjectStore with the whole path of its folder, if it is one: a later command starts in another folder."""
    directory = object_store(document).directory
    if directory is None:
        return document
    metadata = document["metadata"]
    annotations = {**metadata["annotations"], DIRECTORY_ANNOTATION: str(directory.resolve())}
    return {**document, "metadata": {**metadata, "annotations": annotations}}


def _default_profile(name: str) -> Mapping[str, Any]:
    images = dict.fromkeys(("convert", "train", "publish"), f"{_THIS_MACHINE}:latest")
    document = {
        "apiVersion": API_VERSION,
        "kind": "TrainingProfile",
        "metadata": {"name": name},
        "spec": {"images": images, "allowTags": True, "limits": {"maxWorkers": 16}},
    }
    checked = check(document)
    assert not checked.problems, checked.problems
    return checked.value


def _for_this_machine(profile: TrainingProfileSpec) -> TrainingProfileSpec:
    """`profile` with this machine in place of images; the compiler may be installed here or not."""
    compiler = _THIS_MACHINE if shutil.which(COMPILER) else None
    return replace(
        profile,
        images=Images(
            convert=_THIS_MACHINE,
            train=_THIS_MACHINE,
            publish=_THIS_MACHINE,
            train_gpu=_THIS_MACHINE,
            compile=compiler,
            # Whether these have their compilers, the stage finds out.
            compile_rknn=_THIS_MACHINE,
            compile_qnn=_THIS_MACHINE,
            compile_hailo=_THIS_MACHINE,
        ),
    )
