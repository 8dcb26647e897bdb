"""What a stage's process is told: the StageInput of an attempt, from the run, its profile and its stores. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from atoll_contract.keys import RunRef
from atoll_contract.manifest import ManifestRef
from atoll_contract.stage import Accelerator, CompileSpec, PublishSpec, Stage, StageInput, StoreSpec, TrainSpec
from atoll_operator.api.stage_input import (
    compile_spec,
    convert_spec,
    credentials_secret_of,
    export_spec,
    publish_spec,
    store_spec,
    train_spec,
)
from atoll_operator.api.types import KeyRef, ObjectStoreSpec, TrainingProfileSpec, TrainingRunSpec
from atoll_operator.plan import StageAttempt

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
