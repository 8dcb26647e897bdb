"""From the typed specs to the sections of a StageInput. All functions are pure."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atoll_contract.document import replace, to_json
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.release import ManifestRef
from atoll_contract.stage import (
    Accelerator,
    CompileSpec,
    ConvertSpec,
    DatasetLimits,
    DatasetSource,
    ExportSpec,
    InitFrom,
    PublishSpec,
    Stage,
    StageInput,
    StartWeights,
    StoreSpec,
    StoreType,
    TrainSpec,
)
from atoll_operator.api.types import (
    DatasetRef,
    Document,
    KeyRef,
    ObjectStoreSpec,
    StartFrom,
    TrainingProfileSpec,
    TrainingRunSpec,
)
from atoll_operator.lifecycle.model import StageAttempt

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


CREDENTIALS_ROOT = "/etc/atoll/credentials"
CA_ROOT = "/etc/atoll/ca"
SIGNING_ROOT = "/etc/atoll/signing"


@dataclass(frozen=True)
class Places:
    """Where a stage finds the files of Secrets and ConfigMaps; the defaults are the mounts of `jobs.pod`.

    Each takes the reference of the API object and answers a path, or None where the process's own environment
    holds what is needed (the embedded engine leaves S3 credentials to boto3's chain).
    """

    credentials: Callable[[str], str | None] = lambda secret: f"{CREDENTIALS_ROOT}/{secret}"
    ca: Callable[[KeyRef], str | None] = lambda ref: f"{CA_ROOT}/{ref.name}/{ref.key}"
    signing: Callable[[KeyRef], str | None] = lambda ref: f"{SIGNING_ROOT}/{ref.key}"
    # No API server keeps version numbers apart: the store's conditional put has to.
    store_is_lock: bool = False


@dataclass(frozen=True)
class Work:
    """A run with everything that its Jobs are made from. `stores` holds every one of `spec.store_names`."""

    run: RunRef
    spec: TrainingRunSpec
    profile: TrainingProfileSpec
    stores: Mapping[str, ObjectStoreSpec]
    # The run's own labels; those that the profile propagates come onto its Jobs.
    labels: Mapping[str, str] = field(default_factory=dict)
    # The manifest of the ModelRelease that training starts from, where it does.
    start_release: ManifestRef | None = None
    # What the release will say of its making: `datasetDigest`, `specDigest`, `seed`.
    provenance: Mapping[str, str] = field(default_factory=dict)
    places: Places = field(default_factory=Places)
    # Whether no API server keeps version numbers apart, so that the store has to.
    store_is_lock: bool = False
    # How long a stage waits for its store within one call; None: as long as the stage itself finds right.
    store_patience: float | None = None

    @property
    def own_store(self) -> ObjectStoreSpec:
        return self.stores[self.spec.object_store]


def stores_of(work: Work, stage: Stage) -> dict[str, ObjectStoreSpec]:
    """The stores that a stage's pod needs by name: the run's own, and for convert those of its data sets."""
    names = work.spec.store_names if stage is Stage.CONVERT else (work.spec.object_store,)
    return {name: work.stores[name] for name in names}


def stage_input(work: Work, attempt: StageAttempt) -> StageInput:
    """The document that the attempt's process gets.

    Raises:
        SpecError: a key lies outside its store, or the release to start from is not published.
    """
    publishes = attempt.stage is Stage.PUBLISH
    stores = {
        name: _located(work, store, for_publish=publishes) for name, store in stores_of(work, attempt.stage).items()
    }
    common = StageInput(
        stage=attempt.stage,
        attempt=attempt.attempt,
        run=work.run,
        store=stores[work.spec.object_store],
        upstream={str(stage): outputs for stage, outputs in attempt.upstream.items()},
    )
    match attempt.stage:
        case Stage.CONVERT:
            limits = work.profile.limits.dataset
            return replace(common, convert=convert_spec(work.spec, stores=stores, limits=limits))
        case Stage.TRAIN:
            return replace(common, train=_train(work, attempt, common.store))
        case Stage.EXPORT:
            train = _train(work, attempt, common.store)
            return replace(common, export=export_spec(work.spec, train=train))
        case Stage.COMPILE:
            return replace(common, compile=_compile(work))
        case Stage.PUBLISH:
            return replace(common, publish=_publish(work, attempt))


def _train(work: Work, attempt: StageAttempt, store: StoreSpec) -> TrainSpec:
    accelerator = Accelerator(attempt.accelerator)
    return train_spec(work.spec, store=store, release=work.start_release, accelerator=accelerator)


def _compile(work: Work) -> CompileSpec | None:
    return compile_spec(work.spec, target=work.spec.compile[0].target) if work.spec.compile else None


def _publish(work: Work, attempt: StageAttempt) -> PublishSpec:
    key = work.own_store.signing_key
    section = publish_spec(
        work.spec,
        version=attempt.version or 1,
        signing_key_path=work.places.signing(key) if key else None,
        store_is_lock=work.places.store_is_lock,
        provenance=work.provenance,
    )
    return replace(section, store_is_lock=work.store_is_lock)


def _located(work: Work, store: ObjectStoreSpec, *, for_publish: bool) -> StoreSpec:
    places, secret = work.places, credentials_secret_of(store, for_publish=for_publish)
    located = store_spec(
        store,
        credentials_dir=places.credentials(secret) if secret else None,
        ca_bundle_path=places.ca(store.ca_bundle) if store.ca_bundle else None,
        for_publish=for_publish,
    )
    return replace(located, patience_seconds=work.store_patience)
