"""The document that a stage's process gets, from the typed specs of the run, its profile and its stores. Pure."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atoll_contract.convert_spec import ConvertSpec, DatasetSource
from atoll_contract.document import replace, to_json
from atoll_contract.errors import SpecError
from atoll_contract.images import Preprocessing
from atoll_contract.keys import RunRef
from atoll_contract.release import EDGETPU, ManifestRef
from atoll_contract.rollout import RolloutPlan, RolloutStep
from atoll_contract.stage import (
    COMPILE_SECONDS,
    CompilePolicy,
    CompileSpec,
    ExportSpec,
    PublishSpec,
    QualityGates,
    Stage,
    StageInput,
)
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_contract.train_spec import Accelerator, InitFrom, Preset, StartWeights, TrainSpec
from atoll_operator.api.object_store import KeyRef, ObjectStoreSpec
from atoll_operator.api.types import (
    Body,
    DatasetRef,
    InitialWeights,
    Rollout,
    TrainingProfileSpec,
    TrainingRunSpec,
    plain_digest,
)
from atoll_operator.jobs.build_inputs import MUTABLE, build_inputs
from atoll_operator.lifecycle.model import StageAttempt

CREDENTIALS_ROOT = "/etc/atoll/credentials"
CA_ROOT = "/etc/atoll/ca"
SIGNING_ROOT = "/etc/atoll/signing"

# For a compiler and its chip's simulator, which takes up to 1.3 s for an image of the evaluation split.
SIMULATION_SECONDS = 7200


@dataclass(frozen=True)
class MountPaths:
    """Where a stage finds the files of Secrets and ConfigMaps; the defaults are the mounts of `jobs.manifest`.

    Each takes the reference of the API object and returns a path, or None where the process's own environment
    holds what is needed (the embedded engine leaves S3 credentials to boto3's chain).
    """

    credentials: Callable[[str], str | None] = lambda secret: f"{CREDENTIALS_ROOT}/{secret}"
    ca: Callable[[KeyRef], str | None] = lambda ref: f"{CA_ROOT}/{ref.name}/{ref.key}"
    signing: Callable[[KeyRef], str | None] = lambda ref: f"{SIGNING_ROOT}/{ref.key}"


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
    mount_paths: MountPaths = field(default_factory=MountPaths)
    # Whether no API server keeps version numbers apart, so that the store's conditional put has to.
    store_is_lock: bool = False
    # Seconds for which a stage retries one call to its store; None: the stage's own default.
    store_retry_timeout: float | None = None

    @property
    def own_store(self) -> ObjectStoreSpec:
        return self.stores[self.spec.object_store]


def stage_input(work: Work, attempt: StageAttempt, *, handed_over: tuple[Stage, ...] = ()) -> StageInput:
    """The document that the process of `attempt.stage` gets. `handed_over` are earlier stages of the same pod.

    Raises:
        SpecError: a key names another bucket or is outside its store's prefix, or the release to start from is not
            published.
    """
    stage = attempt.stage
    publishes = stage is Stage.PUBLISH
    stores = {name: _mounted(work, item, for_publish=publishes) for name, item in stores_of(work, stage).items()}
    own_store = stores[work.spec.object_store]
    train = _train(work, attempt, own_store) if stage in (Stage.TRAIN, Stage.EXPORT) else None
    return StageInput(
        stage=stage,
        attempt=attempt.attempt,
        run=work.run,
        store=own_store,
        upstream={str(earlier): outputs for earlier, outputs in attempt.upstream.items()},
        handed_over=handed_over or None,
        convert=_convert(work, stores) if stage is Stage.CONVERT else None,
        train=train if stage is Stage.TRAIN else None,
        export=_export(work.spec, train) if train and stage is Stage.EXPORT else None,
        compile=_compile(work.spec, attempt.target) if stage is Stage.COMPILE else None,
        publish=_publish(work, attempt, own_store) if publishes else None,
        adopt_from=attempt.adopt_from,
        target=attempt.target,
    )


def stores_of(work: Work, stage: Stage) -> dict[str, ObjectStoreSpec]:
    """The stores that a stage's pod needs, by name: the run's own, and for convert those of its datasets."""
    names = work.spec.store_names if stage is Stage.CONVERT else (work.spec.object_store,)
    return {name: work.stores[name] for name in names}


def credentials_secret_of(store: ObjectStoreSpec, *, for_publish: bool = False) -> str | None:
    """Name of the Secret to mount for `store`; None for workload identity, anonymous and folder stores."""
    if store.directory is not None:
        return None
    secret = (store.publish_credentials_ref if for_publish else None) or store.credentials.secret_ref
    return secret.name if secret else None


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
        anonymous=store.credentials.anonymous and not (for_publish and store.publish_credentials_ref),
    )


def _mounted(work: Work, store: ObjectStoreSpec, *, for_publish: bool) -> StoreSpec:
    paths, secret = work.mount_paths, credentials_secret_of(store, for_publish=for_publish)
    spec = store_spec(
        store,
        credentials_dir=paths.credentials(secret) if secret else None,
        ca_bundle_path=paths.ca(store.ca_bundle) if store.ca_bundle else None,
        for_publish=for_publish,
    )
    return replace(spec, patience_seconds=work.store_retry_timeout)


def _convert(work: Work, stores: Mapping[str, StoreSpec]) -> ConvertSpec:
    conversion = work.spec.conversion
    return ConvertSpec(
        sources=tuple(_source(dataset, work.spec.object_store, stores) for dataset in work.spec.datasets),
        classes=conversion.classes,
        rename=conversion.rename,
        ignore=conversion.ignore,
        split=conversion.split,
        max_invalid_percent=conversion.max_invalid_percent,
        limits=work.profile.limits.dataset,
        shards=conversion.shards,
    )


def _source(dataset: DatasetRef, own_store: str, stores: Mapping[str, StoreSpec]) -> DatasetSource:
    name = dataset.object_store or own_store
    return DatasetSource(
        key=relative_key(dataset.key, store=stores[name], field="spec.datasets[].key"),
        format=dataset.format,
        digest=plain_digest(dataset.digest) if dataset.digest else None,
        store=stores[name] if name != own_store else None,
    )


def _train(work: Work, attempt: StageAttempt, store: StoreSpec) -> TrainSpec:
    model, training = work.spec.model, work.spec.training
    open_steps = training.steps is None and training.preset is Preset.AUTO
    return TrainSpec(
        architecture=model.architecture,
        width=model.width,
        init_from=_start_weights(training.init_from, store, work.start_release),
        steps=training.expected_steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        seed=training.seed,
        accelerator=Accelerator(attempt.accelerator),
        eval_every_steps=training.eval_every_steps,
        checkpoint_every_steps=training.checkpoint_every_steps,
        early_stopping_patience=training.early_stopping.patience if training.early_stopping else None,
        hyperparameters=training.hyperparameters,
        preset=training.preset,
        max_steps=work.profile.limits.max_steps if open_steps else None,
        preprocessing=Preprocessing(model.preprocessing.resize) if model.preprocessing else None,
    )


def _start_weights(start: InitialWeights, store: StoreSpec, release: ManifestRef | None) -> StartWeights:
    if start.type is InitFrom.RELEASE:
        if release is None:
            raise SpecError(f"the ModelRelease {start.release!r} that training is to start from is not published")
        return StartWeights(type=start.type, key=release.key, sha256=release.sha256)
    if start.checkpoint is None:
        return StartWeights(type=start.type)
    key = relative_key(start.checkpoint.key, store=store, field="spec.training.initFrom.checkpoint.key")
    return StartWeights(type=start.type, key=key, sha256=plain_digest(start.checkpoint.digest))


def _export(run: TrainingRunSpec, train: TrainSpec) -> ExportSpec:
    quality = run.quality
    gates = QualityGates(quality.min_ap50, quality.max_ap50_drop, quality.min_mapped_percent)
    # A run for the Edge TPU alone must not take longer.
    return ExportSpec(train, gates, model=run.publish.model, for_targets=bool(_targets(run)) or None)


def _targets(run: TrainingRunSpec) -> tuple[str, ...]:
    """The compile targets of the run; none where the Edge TPU is the only one."""
    wanted = tuple(item.target for item in run.compile if item.policy is not CompilePolicy.DISABLED)
    return wanted if set(wanted) - {EDGETPU} else ()


def _compile(run: TrainingRunSpec, target: str | None) -> CompileSpec | None:
    """`target` is None where the run has one target at most."""
    chosen = next((item for item in run.compile if target in (None, item.target)), None)
    if chosen is None:
        return None
    min_mapped = chosen.quality.min_mapped_percent
    if min_mapped is None and chosen.target == EDGETPU:
        min_mapped = run.quality.min_mapped_percent
    return CompileSpec(
        chosen.target,
        chosen.policy,
        min_mapped_percent=min_mapped,
        timeout_seconds=COMPILE_SECONDS if chosen.target == EDGETPU else SIMULATION_SECONDS,
        chip=chosen.chip,
        max_ap50_drop=chosen.quality.max_ap50_drop,
    )


def _publish(work: Work, attempt: StageAttempt, own_store: StoreSpec) -> PublishSpec:
    key = work.own_store.signing_key
    return PublishSpec(
        model=work.spec.publish.model,
        channel=work.spec.publish.channel,
        version=attempt.version or 1,
        signing_key_path=work.mount_paths.signing(key) if key else None,
        store_is_lock=work.store_is_lock,
        provenance=work.provenance,
        adopt_only=attempt.adopt_only or None,
        targets=_targets(work.spec) or None,
        rollout=_rollout(work.spec.publish.rollout),
        object_widths=_object_widths(work.spec.publish.object_widths),
        inputs=build_inputs(
            work.spec,
            work.profile,
            _known_start(work, own_store),
            gpu=attempt.accelerator == Accelerator.GPU,
            local=work.store_is_lock,
        ),
    )


def _known_start(work: Work, own_store: StoreSpec) -> StartWeights:
    """The start weights; of a release that is gone by now, that there was one."""
    start = work.spec.training.init_from
    if start.type is InitFrom.RELEASE and work.start_release is None:
        return StartWeights(type=start.type)
    return _start_weights(start, own_store, work.start_release)


def _rollout(wanted: Rollout | None) -> RolloutPlan | None:
    if wanted is None:
        return None
    steps = sorted((step.percent, step.after_seconds) for step in wanted.steps)
    return RolloutPlan(tuple(RolloutStep(percent, after) for percent, after in steps), wanted.halt_at)


def _object_widths(wanted: Mapping[str, float] | None) -> dict[str, float] | None:
    return {label: float(width) for label, width in wanted.items()} if wanted else None


def relative_key(key: str, *, store: StoreSpec, field: str) -> str:
    """`key` relative to the store's prefix, whichever way the user wrote it.

    Raises:
        SpecError: it names another bucket, or is outside the store's prefix; the message names `field`.
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


def spec_digest(document: Body) -> str:
    """Hex sha256 of what a run's result depends on: its defaulted spec without the fields that may change."""
    fixed = {name: value for name, value in document["spec"].items() if name not in MUTABLE}
    return hashlib.sha256(to_json(fixed)).hexdigest()
