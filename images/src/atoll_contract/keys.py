"""The keys of objects in the bucket, relative to the store's prefix. No other module builds a key."""

from atoll_contract.document import Document

# Files of releases, by content. All namespaces below one prefix share them.
BLOBS = "blobs/sha256/"
MODELS = "models/"
IMAGENET_WIDTHS = (1.0, 0.5, 0.35)
# Of the one backbone that has learned to detect on Open Images.
OPEN_IMAGES_WIDTH = 1.0


class RunRef(Document, frozen=True):
    """A TrainingRun in keys and results."""

    namespace: str
    name: str
    uid: str


def datasets_prefix(namespace: str) -> str:
    return f"datasets/{namespace}/"


def dataset(namespace: str, name: str) -> str:
    """A labelled archive that `atoll push` uploads, by its file name."""
    return f"{datasets_prefix(namespace)}{name}"


def weights(name: str) -> str:
    """Initial weights that `atoll push --weights` uploads, by their file name."""
    return f"weights/{name}"


def cached_datasets_prefix(namespace: str) -> str:
    """Folder of all converted datasets of a namespace; below it `<digest>/`."""
    return f"cache/{namespace}/datasets/"


def cached_dataset(namespace: str, digest: str) -> str:
    """Folder of a converted dataset. `digest` is the hex digest of content and options."""
    return f"{cached_datasets_prefix(namespace)}{digest}/"


def conversion_lease(namespace: str, digest: str) -> str:
    """The lease of the run that converts this dataset now. It stays without a holder: convert may not delete."""
    return f"{cached_dataset(namespace, digest)}lease.json"


def runs_prefix(namespace: str) -> str:
    """Folder of all runs of a namespace; below it `<run UID>/`."""
    return f"runs/{namespace}/"


def run_prefix(run: RunRef) -> str:
    return f"{runs_prefix(run.namespace)}{run.uid}/"


def stage_prefix(run: RunRef, stage: str) -> str:
    """Folder of a stage; that of one compile target of several is `compile-<target>`."""
    return f"{run_prefix(run)}{stage}/"


def attempt_prefix(run: RunRef, stage: str, *, attempt: int, pod_uid: str) -> str:
    """Folder that exactly one pod writes to."""
    return f"{stage_prefix(run, stage)}a{attempt}-{pod_uid}/"


def conversion_plan(run: RunRef, attempt: int) -> str:
    """What index 0 of a conversion in several shards tells the others."""
    return f"{stage_prefix(run, 'convert')}plans/{attempt}.json"


def conversion_batches_prefix(run: RunRef) -> str:
    """Folder of what the shards of a run's conversions exchange; below it `<digest>/`. Publish deletes it."""
    return f"{stage_prefix(run, 'convert')}batches/"


def conversion_batches(run: RunRef, digest: str) -> str:
    """Folder of the batches of one dataset, for all attempts; `digest` is the dataset's."""
    return f"{conversion_batches_prefix(run)}{digest}/"


def checkpoints_prefix(run: RunRef, *, adopt_from: int | None = None) -> str:
    """Folder of the train stage's checkpoints, which all its attempts share. Those of attempts that take nothing over
    from before attempt `adopt_from` lie in a folder of their own below it."""
    return f"{stage_prefix(run, 'train')}checkpoints/" + (f"a{adopt_from}/" if adopt_from else "")


def logs_prefix(run: RunRef, stage: str) -> str:
    """The prefix of a stage's logs; `<attempt>-<pod UID>/<number>.log` follows."""
    return f"{run_prefix(run)}logs/{stage}-a"


def log_chunk(run: RunRef, stage: str, *, attempt: int, pod_uid: str, number: int) -> str:
    return f"{logs_prefix(run, stage)}{attempt}-{pod_uid}/{number:05d}.log"


def blob(sha256: str) -> str:
    return f"{BLOBS}{sha256}"


def models_prefix(namespace: str) -> str:
    """Folder of all models of a namespace; below it `<model>/`."""
    return f"{MODELS}{namespace}/"


def model_prefix(namespace: str, model: str) -> str:
    return f"{models_prefix(namespace)}{model}/"


def manifest(namespace: str, model: str, version: int) -> str:
    return f"{model_prefix(namespace, model)}v{version}/manifest.json"


def signature(namespace: str, model: str, version: int) -> str:
    """The DSSE envelope beside a manifest."""
    return f"{model_prefix(namespace, model)}v{version}/manifest.dsse.json"


def provenance(namespace: str, model: str, version: int, *, signed: bool) -> str:
    """The in-toto statement about a version; signed, it is in a DSSE envelope."""
    return f"{model_prefix(namespace, model)}v{version}/provenance{'.dsse' if signed else ''}.json"


def model_card(namespace: str, model: str, version: int) -> str:
    return f"{model_prefix(namespace, model)}v{version}/model-card.md"


def rollout(namespace: str, model: str, version: int) -> str:
    """What pauses or halts the roll-out of a version; it is not signed."""
    return f"{model_prefix(namespace, model)}v{version}/rollout.json"


def promotion(namespace: str, model: str, version: int, *, signed: bool) -> str:
    """What ends the roll-out of a version by letting all devices take it; signed, it is a DSSE envelope."""
    return f"{model_prefix(namespace, model)}v{version}/promotion{'.dsse' if signed else ''}.json"


def channel(namespace: str, model: str, name: str) -> str:
    return f"{model_prefix(namespace, model)}channels/{name}.json"


def probe(namespace: str, model: str, token: str) -> str:
    """A key that the check of the store's conditional put writes and deletes."""
    return f"{model_prefix(namespace, model)}probes/{token}"


def device_report(namespace: str, model: str, device: str) -> str:
    return f"devices/{namespace}/{model}/{device}.json"


def device_reports_prefix(namespace: str) -> str:
    """Folder of all reports of the namespace's devices; below it `<model>/<device>.json`."""
    return f"devices/{namespace}/"


def harvests_prefix(namespace: str) -> str:
    """Folder of the images that the namespace's devices harvest; below it `<device>/<sha256>.{jpg,json}`."""
    return f"harvest/{namespace}/"


def harvest_prefix(namespace: str, device: str) -> str:
    """The only folder that a device may write images to."""
    return f"{harvests_prefix(namespace)}{device}/"


def harvested_image(namespace: str, device: str, sha256: str) -> str:
    """An image by the digest of its bytes, so that a second upload changes nothing."""
    return f"{harvest_prefix(namespace, device)}{sha256}.jpg"


def harvested_note(namespace: str, device: str, sha256: str) -> str:
    """The note of an image. It is written after the image, so that every note has its image."""
    return f"{harvest_prefix(namespace, device)}{sha256}.json"


def archived_run(namespace: str, name: str, uid: str) -> str:
    """The JSON of a TrainingRun that was deleted from the cluster. Nothing removes it."""
    return f"archive/{namespace}/{name}-{uid}.json"


def own_prefixes(namespace: str) -> tuple[str, ...]:
    """The prefixes of all keys that belong to this namespace alone."""
    kinds = ("cache", "datasets", "devices", "harvest", "models", "runs")
    return tuple(f"{kind}/{namespace}/" for kind in kinds)


def weights_record(name: str) -> str:
    """The key of what is known of the weights file `name`."""
    return f"{weights(name)}.json"


def imagenet_names(width: float) -> tuple[str, ...]:
    """File names of the ImageNet weights of a width: that of Keras 3, and that of the file which Keras downloads."""
    text = "1.0" if width == 1.0 else str(width)
    return (
        f"mobilenet_v2_{text}_224_no_top.weights.h5",
        f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{text}_224_no_top.h5",
    )
