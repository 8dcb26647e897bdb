"""Objects of the API as typed specs.

The functions take a whole object as the API server stores it: validated and with its defaults (`schema.check` does
both to a document from a file).
"""

from pathlib import Path

from atoll_contract.document import from_dict
from atoll_contract.stage import (
    Accelerator,
    AddressingStyle,
    Architecture,
    ChecksumMode,
    CompilePolicy,
    DatasetFormat,
    DatasetLimits,
    InitFrom,
    QualityGates,
    Rename,
    Split,
    Stage,
)
from atoll_operator.api.types import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_STEPS,
    CompileTarget,
    Conversion,
    DatasetRef,
    Document,
    Images,
    KeyRef,
    ObjectStoreSpec,
    ProfileEstimate,
    ProfileLimits,
    Resources,
    RunPolicy,
    StartFrom,
    Training,
    TrainingProfileSpec,
    TrainingRunSpec,
    read_hyperparameters,
)

# A folder as the store; only the embedded engine understands it.
DIRECTORY_ANNOTATION = "atoll.dev/directory"


def plain_digest(digest: str | None) -> str | None:
    """`sha256:<hex>` as the API writes it without its prefix, as documents and keys do."""
    return digest.removeprefix("sha256:") if digest is not None else None


def training_run(document: Document) -> TrainingRunSpec:
    """The spec of a TrainingRun.

    Raises:
        SpecError: a hyperparameter's number is out of its range.
    """
    spec = document["spec"]
    return TrainingRunSpec(
        suspend=spec["suspend"],
        cancel=spec["cancel"],
        profile=spec["profileRef"]["name"],
        object_store=spec["objectStoreRef"]["name"],
        datasets=tuple(_dataset(item) for item in spec["datasets"]),
        conversion=_conversion(spec["conversion"]),
        architecture=Architecture(spec["model"]["architecture"]),
        width=float(spec["model"]["width"]),
        training=_training(spec["training"]),
        quality=_quality(spec["quality"]),
        compile=tuple(CompileTarget(item["target"], CompilePolicy(item["policy"])) for item in spec["compile"]),
        model=spec["publish"]["model"],
        channel=spec["publish"]["channel"],
        run_policy=_run_policy(spec["runPolicy"]),
    )


def object_store(document: Document) -> ObjectStoreSpec:
    """The spec of an ObjectStore."""
    spec = document["spec"]
    credentials = spec["credentials"]
    directory = (document.get("metadata", {}).get("annotations") or {}).get(DIRECTORY_ANNOTATION)
    return ObjectStoreSpec(
        bucket=spec["bucket"],
        prefix=spec["prefix"],
        endpoint=spec.get("endpoint"),
        region=spec.get("region"),
        addressing_style=AddressingStyle(spec["addressingStyle"]),
        checksum_mode=ChecksumMode(spec["checksumMode"]),
        credentials_secret=_name(credentials.get("secretRef")),
        workload_identity="workloadIdentity" in credentials,
        anonymous=credentials.get("anonymous", False),
        publish_credentials_secret=_name(spec.get("publishCredentialsRef")),
        signing_key=_key_ref(spec.get("signingKeyRef")),
        ca_bundle=_key_ref(spec.get("caBundleRef")),
        directory=Path(directory) if directory else None,
    )


def training_profile(document: Document) -> TrainingProfileSpec:
    """The spec of a TrainingProfile."""
    spec = document["spec"]
    images = spec["images"]
    return TrainingProfileSpec(
        images=Images(
            convert=images["convert"],
            train=images["train"],
            publish=images["publish"],
            train_gpu=images.get("trainGPU"),
            compile=images.get("compile"),
        ),
        allow_tags=spec["allowTags"],
        image_pull_policy=spec["imagePullPolicy"],
        image_pull_secrets=tuple(item["name"] for item in spec["imagePullSecrets"]),
        resources={Stage(stage): _resources(item) for stage, item in spec["resources"].items()},
        scratch_size=str(spec["scratch"]["sizeLimit"]),
        gpu_resource=spec["gpu"]["resourceName"],
        runtime_class=spec["gpu"].get("runtimeClassName"),
        priority_class=spec["priorityClassName"] or None,
        node_selector=spec["nodeSelector"],
        tolerations=tuple(spec["tolerations"]),
        env={item["name"]: item["value"] for item in spec["env"]},
        stage_service_account=spec["serviceAccounts"]["stage"],
        publish_service_account=spec["serviceAccounts"]["publish"],
        propagate_labels=tuple(spec["propagateLabels"]),
        limits=_limits(spec["limits"]),
        max_concurrent_runs=spec["maxConcurrentRuns"],
        estimate=_estimate(spec.get("estimate")),
    )


def _dataset(item: Document) -> DatasetRef:
    return DatasetRef(
        key=item["key"],
        format=DatasetFormat(item["format"]),
        sha256=plain_digest(item.get("digest")),
        object_store=_name(item.get("objectStoreRef")),
    )


def _conversion(item: Document) -> Conversion:
    return Conversion(
        classes=tuple(item["classes"]),
        rename=tuple(Rename(from_=pair["from"], to=pair["to"]) for pair in item["rename"]),
        ignore=tuple(item["ignore"]),
        split=from_dict(Split, item["split"]),
        max_invalid_percent=float(item["maxInvalidPercent"]),
    )


def _training(item: Document) -> Training:
    named = read_hyperparameters(item["hyperparameters"])
    return Training(
        start=_start(item["initFrom"]),
        steps=item.get("steps") or named.steps or DEFAULT_STEPS,
        batch_size=item.get("batchSize") or named.batch_size or DEFAULT_BATCH_SIZE,
        learning_rate=_decimal(item.get("learningRate")),
        seed=item["seed"],
        accelerator=Accelerator(item["accelerator"]),
        gpus=item["gpus"],
        eval_every_steps=item.get("evalEverySteps") or named.eval_every_steps,
        checkpoint_every_steps=item.get("checkpointEverySteps"),
        early_stopping_patience=item.get("earlyStopping", {}).get("patience"),
        hyperparameters=named.rest,
    )


def _start(item: Document) -> StartFrom:
    checkpoint = item.get("checkpoint", {})
    return StartFrom(
        type=InitFrom(item["type"]),
        release=_name(item.get("releaseRef")),
        key=checkpoint.get("key"),
        sha256=plain_digest(checkpoint.get("digest")),
    )


def _quality(item: Document) -> QualityGates:
    return QualityGates(
        min_ap50=_decimal(item.get("minAP50")),
        max_ap50_drop=_decimal(item.get("maxAP50Drop")),
        min_mapped_percent=_decimal(item.get("minMappedPercent")),
    )


def _run_policy(item: Document) -> RunPolicy:
    return RunPolicy(
        active_deadline_seconds=item.get("activeDeadlineSeconds"),
        backoff_limit=item["backoffLimit"],
        ttl_seconds_after_finished=item.get("ttlSecondsAfterFinished"),
        job_ttl_seconds_after_finished=item["jobTTLSecondsAfterFinished"],
    )


def _limits(item: Document) -> ProfileLimits:
    return ProfileLimits(
        max_steps=item["maxSteps"],
        active_deadline_seconds=item["activeDeadlineSeconds"],
        pending_deadline_seconds=item["pendingDeadlineSeconds"],
        dataset=from_dict(DatasetLimits, item["dataset"]),
    )


def _estimate(item: Document | None) -> ProfileEstimate | None:
    return ProfileEstimate(float(item["secondsPerStep"]), item["otherSeconds"]) if item else None


def _resources(item: Document) -> Resources:
    return Resources(
        requests={name: str(value) for name, value in item.get("requests", {}).items()},
        limits={name: str(value) for name, value in item.get("limits", {}).items()},
    )


def _name(ref: Document | None) -> str | None:
    return ref["name"] if ref is not None else None


def _key_ref(ref: Document | None) -> KeyRef | None:
    return KeyRef(ref["name"], ref["key"]) if ref is not None else None


def _decimal(text: str | None) -> float | None:
    return float(text) if text is not None else None


def violation(run: TrainingRunSpec, profile: TrainingProfileSpec, *, profile_name: str) -> str | None:
    """The first limit of `profile` that `run` exceeds, as a sentence; None where it keeps within all."""
    limits = profile.limits
    if run.training.steps > limits.max_steps:
        return (
            f"{run.training.steps} training steps exceed the {limits.max_steps} of TrainingProfile {profile_name}; "
            "copy the run with fewer, or ask the cluster's administrator to raise limits.maxSteps"
        )
    deadline = run.run_policy.active_deadline_seconds
    if deadline is not None and deadline > limits.active_deadline_seconds:
        return (
            f"a deadline of {deadline} s exceeds the {limits.active_deadline_seconds} s of TrainingProfile "
            f"{profile_name}; copy the run with a shorter one, or ask the cluster's administrator to raise "
            "limits.activeDeadlineSeconds"
        )
    return None
