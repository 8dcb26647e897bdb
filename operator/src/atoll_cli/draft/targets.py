"""The target of a drafted run, the local engine or a cluster, and the facts there that its settings depend on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_cli.draft.settings import InitialWeights
from atoll_cli.local.state import RunFolder, known_runs, read_record
from atoll_cli.releases import read_manifest
from atoll_contract import keys
from atoll_contract.errors import AtollError, Reason, SpecError
from atoll_contract.images import Resize
from atoll_contract.keys import IMAGENET_WIDTHS, imagenet_names
from atoll_contract.recipe import MAX_STEPS
from atoll_contract.release import release_parts
from atoll_contract.stage import ENV_WEIGHTS_DIR
from atoll_contract.store.base import Store
from atoll_contract.train_spec import Architecture, InitFrom
from atoll_operator.api.decode import training_profile
from atoll_operator.api.types import ProfileEstimate, TrainingProfileSpec
from atoll_operator.kube.errors import Forbidden
from atoll_operator.kube.objects import NODES, PROFILES, RELEASES, RUNS

if TYPE_CHECKING:
    from atoll_operator.kube.client import Cluster

Document = Mapping[str, Any]
Run = Document

# The name of the profile and of the ObjectStore of a run that names none.
DEFAULT_REF = "default"
RANDOM_NOTE = "imagenet starts better: atoll weights"
NO_WEIGHTS = (
    "this machine has no ImageNet weights to start from: `atoll weights` gets them (9 MB; --from FILE where there is "
    "no internet). Random weights take twice the steps and find less in photographs: `atoll new --random`, or the "
    "choice on the page of `atoll ui`"
)
# The label of a TrainingProfile that says which ImageNet weights its train image holds, and the width to take where it
# does not say so.
WEIGHTS_LABEL = "atoll.dev/imagenet-weights"
DEFAULT_WIDTH = 1.0


@dataclass(frozen=True)
class RunTarget:
    """The local engine or a cluster. `runs` are its TrainingRuns with their status, `taken` their names. `gpu` is None
    for this machine, where only a benchmark shows it. `model` is set where the initial weights decide it: a release
    is continued under its own name."""

    description: str
    namespace: str
    cluster: bool
    initial_weights: InitialWeights
    # The reason for these weights, which becomes a comment of the draft.
    weights_note: str
    runs: tuple[Run, ...] = field(default=(), repr=False)
    taken: frozenset[str] = frozenset()
    gpu: bool | None = None
    max_steps: int = MAX_STEPS
    model: str | None = None
    profile: str = DEFAULT_REF
    # The profile's own estimate, for a target where no run has ended yet.
    estimate: ProfileEstimate | None = None
    object_store: str = DEFAULT_REF


def local_target(folder: Path, store: Store, namespace: str, *, release: str | None, random: bool = False) -> RunTarget:
    """The local engine with `folder`; `release` is one to start from, and with `random` nothing is.

    Raises:
        SpecError: there is no such release, or the run that made it is not known here; WeightsNotFound, nothing was
            named to start from, and no ImageNet weights are here.
    """
    folders = [item for item in known_runs(folder.resolve()) if item.namespace == namespace]
    runs = tuple(run for item in folders if (run := _read_run(item)) is not None)
    if release is not None:
        weights, note = _release_weights(release, runs, read_manifest(store, namespace, release).run.uid)
    else:
        weights, note = (InitialWeights(InitFrom.RANDOM), RANDOM_NOTE) if random else _stored_weights(store)
    return RunTarget(
        "this machine",
        namespace,
        cluster=False,
        initial_weights=weights,
        weights_note=note,
        runs=runs,
        taken=frozenset(item.name for item in folders),
        model=release_parts(release)[0] if release else None,
    )


def _read_run(folder: RunFolder) -> Run | None:
    try:
        record = read_record(folder)
    except AtollError:
        # The commands that need that run report the damage.
        return None
    return record.manifest if record else None


def _stored_weights(store: Store) -> tuple[InitialWeights, str]:
    """The ImageNet weights that the local engine finds, with a note on why these. Raises SpecError where there are
    none: nobody gets random ones unasked."""
    width = next((item for item in IMAGENET_WIDTHS if _has_weights(store, item)), None)
    if width is None:
        raise SpecError(NO_WEIGHTS, Reason.WEIGHTS_NOT_FOUND)
    return InitialWeights(InitFrom.IMAGENET, width=width), f"the weights of width {width} are at hand"


def _has_weights(store: Store, width: float) -> bool:
    folder = os.environ.get(ENV_WEIGHTS_DIR)
    names = imagenet_names(width)
    return any((Path(folder) / name).is_file() for name in names if folder) or any(
        store.head(keys.weights(name)) is not None for name in names
    )


def cluster_target(
    cluster: Cluster,
    namespace: str,
    *,
    release: str | None,
    random: bool = False,
    profile: str = DEFAULT_REF,
    object_store: str = DEFAULT_REF,
) -> RunTarget:
    """A cluster as its user sees it: what the user may not read counts as missing. `release` is one to start from, and
    with `random` nothing is.

    Raises:
        SpecError: there is no such release, or the run that made it is gone.
        ClusterError: the API server does not answer, or refuses to list the namespace's runs.
    """
    runs = tuple(cluster.list_all(RUNS, namespace))
    document, missing = _read_profile(cluster, profile)
    found = training_profile(document) if document is not None else None
    resource = _gpu_resource(cluster, found)
    offer = f"which offers {resource}" if resource else missing or "on CPUs"
    if release is not None:
        weights, note = _release_weights(release, runs, _release_run_uid(cluster, namespace, release))
    else:
        weights, note = (InitialWeights(InitFrom.RANDOM), RANDOM_NOTE) if random else _image_weights(runs, document)
    return RunTarget(
        f"TrainingProfile {profile}, {offer}",
        namespace,
        cluster=True,
        initial_weights=weights,
        weights_note=note,
        runs=runs,
        taken=frozenset(str(run["metadata"]["name"]) for run in runs),
        gpu=resource is not None,
        max_steps=min(MAX_STEPS, found.limits.max_steps) if found else MAX_STEPS,
        model=release_parts(release)[0] if release else None,
        profile=profile,
        estimate=found.estimate if found else None,
        object_store=object_store,
    )


def _read_profile(cluster: Cluster, name: str) -> tuple[Document | None, str]:
    """The profile, or the reason why it is not known."""
    try:
        document = cluster.read(PROFILES, None, name)
    except Forbidden:
        return None, "which you may not read, so it is taken for one with CPUs"
    return (document, "") if document is not None else (None, "which does not exist yet")


def _gpu_resource(cluster: Cluster, profile: TrainingProfileSpec | None) -> str | None:
    """The GPU resource of the profile, if it has an image for it and a node offers one. For a user who may not list
    nodes the profile decides alone."""
    if profile is None or profile.images.train_gpu is None:
        return None
    try:
        nodes = cluster.list_all(NODES)
    except Forbidden:
        return profile.gpu.resource_name
    amounts = [
        ((node.get("status") or {}).get("allocatable") or {}).get(profile.gpu.resource_name, "0") for node in nodes
    ]
    return profile.gpu.resource_name if any(amount not in ("", "0") for amount in amounts) else None


def _release_run_uid(cluster: Cluster, namespace: str, release: str) -> str | None:
    release_parts(release)
    found = cluster.read(RELEASES, namespace, release)
    if found is None:
        raise SpecError(f"there is no ModelRelease {release} in namespace {namespace} (see atoll releases)")
    uid: str | None = found["spec"]["runRef"].get("uid")
    return uid


def _image_weights(runs: tuple[Run, ...], profile: Document | None) -> tuple[InitialWeights, str]:
    """ImageNet weights, with a note: a train image may lack them, and the bucket may have them by now."""
    held = ((profile or {}).get("metadata", {}).get("labels") or {}).get(WEIGHTS_LABEL)
    width = next((item for item in IMAGENET_WIDTHS if str(item) == held), None)
    if width is not None:
        return InitialWeights(InitFrom.IMAGENET, width=width), f"the train image has the weights of width {width}"
    if _lacks_weights(runs):
        note = "the last run missed them: put them into the bucket first, atoll weights -n NAMESPACE"
    else:
        note = "if a run ends with WeightsNotFound: atoll weights -n NAMESPACE"
    return InitialWeights(InitFrom.IMAGENET, width=DEFAULT_WIDTH), note


def _lacks_weights(runs: tuple[Run, ...]) -> bool:
    """Whether the newest run that tried to load ImageNet weights missed them."""
    missed = []
    for run in runs:
        if run["spec"].get("training", {}).get("initFrom", {}).get("type", "imagenet") != InitFrom.IMAGENET:
            continue
        status = run.get("status") or {}
        stages = {item.get("name"): item for item in status.get("stages") or ()}
        if status.get("reason") == Reason.WEIGHTS_NOT_FOUND:
            missed.append((run["metadata"]["creationTimestamp"], True))
        elif stages.get("train", {}).get("phase") == "Succeeded":
            missed.append((run["metadata"]["creationTimestamp"], False))
    return max(missed)[1] if missed else False


def _release_weights(release: str, runs: tuple[Run, ...], uid: str | None) -> tuple[InitialWeights, str]:
    """The weights of a release that the run with `uid` made, with a note.

    Raises:
        SpecError: that run is not known any more.
    """
    run = next((run for run in runs if run["metadata"]["uid"] == uid), None)
    if run is None:
        raise SpecError(
            f"the run that made {release} is gone, and with it its architecture and width; leave --from out and write "
            f"initFrom: {{ type: release, releaseRef: {{ name: {release} }} }} with both into the file"
        )
    model = run["spec"]["model"]
    architecture = Architecture(model["architecture"])
    weights = InitialWeights(
        InitFrom.RELEASE,
        release,
        width=float(model["width"]),
        architecture=architecture,
        resize=Resize(model.get("preprocessing", {}).get("resize", Resize.SQUASH)),
    )
    return weights, f"goes on from {release}; its architecture and width must stay"
