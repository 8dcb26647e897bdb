"""From the typed specs to the sections of a StageInput. All functions are pure."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from atoll_contract.codec import to_json
from atoll_contract.errors import SpecError
from atoll_contract.manifest import ManifestRef
from atoll_contract.stage import (
    Accelerator,
    CompileSpec,
    ConvertSpec,
    DatasetLimits,
    DatasetSource,
    ExportSpec,
    InitFrom,
    PublishSpec,
    StartWeights,
    StoreSpec,
    StoreType,
    TrainSpec,
)
from atoll_operator.api.types import DatasetRef, Document, ObjectStoreSpec, StartFrom, TrainingRunSpec

# What may change on a run, and so is no part of its identity.
_MUTABLE = ("suspend", "cancel", "runPolicy")


def store_spec(
    store: ObjectStoreSpec,
    *,
    credentials_dir: str | None = None,
    ca_bundle_path: str | None = None,
    for_publish: bool = False,
) -> StoreSpec:
    """Where `store` is, as a stage sees it.

    `credentials_dir` is where the engine mounts the Secret that `credentials_secret_of` names, `ca_bundle_path` the
    mounted PEM file. A publish stage with a Secret of its own is not anonymous.
    """
    if store.directory is not None:
        return StoreSpec(type=StoreType.DIRECTORY, path=str(store.directory))
    return StoreSpec(
        type=StoreType.S3,
        bucket=store.bucket,
        prefix=store.prefix,
        endpoint=store.endpoint,
        region=store.region,
        addressing_style=store.addressing_style,
        checksum_mode=store.checksum_mode,
        ca_bundle_path=ca_bundle_path,
        credentials_dir=credentials_dir,
        anonymous=store.anonymous and not (for_publish and store.publish_credentials_secret),
    )


def directory_store(path: Path) -> StoreSpec:
    """A folder as the store, which is what the embedded engine has where no ObjectStore is given."""
    return StoreSpec(type=StoreType.DIRECTORY, path=str(path))


def credentials_secret_of(store: ObjectStoreSpec, *, for_publish: bool = False) -> str | None:
    """Name of the Secret to mount for `store`; None for workload identity, anonymous and folder stores."""
    if store.directory is not None:
        return None
    if for_publish and store.publish_credentials_secret:
        return store.publish_credentials_secret
    return store.credentials_secret


def convert_spec(run: TrainingRunSpec, *, stores: Mapping[str, StoreSpec], limits: DatasetLimits) -> ConvertSpec:
    """What the convert stage does. `stores` holds every one of `run.store_names`.

    Raises:
        SpecError: a key names another bucket or lies outside its store's prefix.
    """
    conversion = run.conversion
    return ConvertSpec(
        sources=tuple(_source(dataset, run=run, stores=stores) for dataset in run.datasets),
        classes=conversion.classes,
        rename=conversion.rename,
        ignore=conversion.ignore,
        split=conversion.split,
        max_invalid_percent=conversion.max_invalid_percent,
        limits=limits,
    )


def train_spec(
    run: TrainingRunSpec,
    *,
    store: StoreSpec,
    release: ManifestRef | None = None,
    accelerator: Accelerator | None = None,
) -> TrainSpec:
    """What the train stage does. `release` is the manifest of the ModelRelease that the run starts from, if it
    does; `accelerator` what the engine decided, where it did.

    Raises:
        SpecError: a key names another bucket or lies outside its store's prefix, or the release has no manifest.
    """
    training = run.training
    return TrainSpec(
        architecture=run.architecture,
        width=run.width,
        init_from=_start_weights(training.start, store=store, release=release),
        steps=training.steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        seed=training.seed,
        accelerator=accelerator or training.accelerator,
        eval_every_steps=training.eval_every_steps,
        checkpoint_every_steps=training.checkpoint_every_steps,
        early_stopping_patience=training.early_stopping_patience,
        hyperparameters=training.hyperparameters,
    )


def export_spec(run: TrainingRunSpec, *, train: TrainSpec) -> ExportSpec:
    """What the export stage does; `train` is what the train stage was given."""
    return ExportSpec(train=train, quality=run.quality)


def compile_spec(run: TrainingRunSpec, *, target: str) -> CompileSpec | None:
    """What the compile stage does for `target`; None where the run does not name it."""
    choice = next((item for item in run.compile if item.target == target), None)
    if choice is None:
        return None
    return CompileSpec(target=target, policy=choice.policy, min_mapped_percent=run.quality.min_mapped_percent)


def publish_spec(
    run: TrainingRunSpec,
    *,
    version: int,
    signing_key_path: str | None = None,
    store_is_lock: bool = False,
    provenance: Mapping[str, str] | None = None,
) -> PublishSpec:
    """What the publish stage does; `version` is the reserved one."""
    return PublishSpec(
        model=run.model,
        channel=run.channel,
        version=version,
        signing_key_path=signing_key_path,
        store_is_lock=store_is_lock,
        provenance=provenance or {},
    )


def spec_digest(document: Document) -> str:
    """Hex sha256 of what a run's result depends on: its defaulted spec without the fields that may change."""
    fixed = {name: value for name, value in document["spec"].items() if name not in _MUTABLE}
    return hashlib.sha256(to_json(fixed)).hexdigest()


def relative_key(key: str, *, store: StoreSpec, field: str) -> str:
    """`key` relative to the store's prefix, whichever way the user wrote it.

    Raises:
        SpecError: it names another bucket, or lies outside the store's prefix; `field` is named as the place.
    """
    if not key.startswith("s3://"):
        return key
    if store.type is StoreType.DIRECTORY:
        raise SpecError(f"{field} is {key!r}, but its store is a folder; write the key relative to that folder")
    root = f"s3://{store.bucket}/{store.prefix}"
    if not key.startswith(root) or key == root.rstrip("/"):
        raise SpecError(
            f"{field} is {key!r}, which does not lie in its ObjectStore at {root}; "
            "name an ObjectStore that holds it with objectStoreRef, or copy the archive there"
        )
    return key.removeprefix(root)


def _source(dataset: DatasetRef, *, run: TrainingRunSpec, stores: Mapping[str, StoreSpec]) -> DatasetSource:
    store = stores[dataset.object_store or run.object_store]
    elsewhere = dataset.object_store not in (None, run.object_store)
    return DatasetSource(
        key=relative_key(dataset.key, store=store, field="spec.datasets[].key"),
        format=dataset.format,
        digest=dataset.sha256,
        store=store if elsewhere else None,
    )


def _start_weights(start: StartFrom, *, store: StoreSpec, release: ManifestRef | None) -> StartWeights:
    if start.type is InitFrom.RELEASE:
        if release is None:
            raise SpecError(f"the ModelRelease {start.release!r} that training is to start from is not published")
        return StartWeights(type=start.type, key=release.key, sha256=release.sha256)
    if start.key is None:
        return StartWeights(type=start.type)
    key = relative_key(start.key, store=store, field="spec.training.initFrom.checkpoint.key")
    return StartWeights(type=start.type, key=key, sha256=start.sha256)
