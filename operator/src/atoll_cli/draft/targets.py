"""Where a drafted run is meant to run, and what is known there that its settings depend on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_cli.draft.settings import MOST_STEPS, Start
from atoll_cli.local.state import RunFolder, known_runs, read_record
from atoll_contract import keys
from atoll_contract.document import from_json
from atoll_contract.errors import AtollError, Reason, SpecError
from atoll_contract.keys import IMAGENET_WIDTHS, imagenet_names
from atoll_contract.release import Manifest, release_parts
from atoll_contract.stage import ENV_WEIGHTS_DIR, Architecture, InitFrom
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_operator.api.parse import training_profile
from atoll_operator.api.types import ProfileEstimate, TrainingProfileSpec
from atoll_operator.kube.errors import Forbidden

if TYPE_CHECKING:
    from atoll_operator.kube.client import Cluster


# What a run names where it names nothing.
DEFAULT_REF = "default"


@dataclass(frozen=True)
class Place:
    """`runs` are the TrainingRuns there, with their status; `taken` their names. `gpu` is None where only a timing
    can tell (this machine). `model` is given where the start decides it: a release goes on under its own name."""

    words: str
    namespace: str
    cluster: bool
    start: Start
    start_words: str
    runs: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    taken: frozenset[str] = frozenset()
    gpu: bool | None = None
    most_steps: int = MOST_STEPS
    model: str | None = None
    profile: str = DEFAULT_REF
    # What the profile says of the time, as long as no run has told.
    estimate: ProfileEstimate | None = None
    object_store: str = DEFAULT_REF


def local_place(folder: Path, store: Store, namespace: str, *, release: str | None) -> Place:
    """The local engine with `folder`.

    Raises:
        SpecError: there is no such release, or the run that made it is not known here.
    """
    folders = [item for item in known_runs(folder.resolve()) if item.namespace == namespace]
    runs = tuple(run for item in folders if (run := _run(item)) is not None)
    start, words, model = _start(store, namespace, runs, release)
    return Place(
        "this machine",
        namespace,
        cluster=False,
        start=start,
        start_words=words,
        runs=runs,
        taken=frozenset(item.name for item in folders),
        model=model,
    )


def release_start(release: str, run: Mapping[str, Any] | None) -> Start:
    """To train on from a release of that run: detector and width must be the same.

    Raises:
        SpecError: the run is not known any more.
    """
    if run is None:
        raise SpecError(
            f"the run that made {release} is gone, and with it its architecture and width; leave --from out and write "
            f"initFrom: {{ type: release, releaseRef: {{ name: {release} }} }} with both into the file"
        )
    model = run["spec"]["model"]
    return Start(
        InitFrom.RELEASE,
        release=release,
        width=float(model["width"]),
        architecture=Architecture(model["architecture"]),
    )


def _start(
    store: Store, namespace: str, runs: tuple[Mapping[str, Any], ...], release: str | None
) -> tuple[Start, str, str | None]:
    if release is None:
        width = next((item for item in IMAGENET_WIDTHS if _has_weights(store, item)), None)
        if width is not None:
            return Start(InitFrom.IMAGENET, width=width), f"the weights of width {width} are at hand", None
        return Start(InitFrom.RANDOM), "imagenet starts better: atoll push --weights FILE", None
    model, version = release_parts(release)
    try:
        manifest = from_json(Manifest, store.get(keys.manifest(namespace, model, version)))
    except ObjectNotFound:
        raise SpecError(f"there is no release {release} in {store.url}; see atoll releases") from None
    made_by = next((run for run in runs if run["metadata"]["uid"] == manifest.run.uid), None)
    return release_start(release, made_by), f"goes on from {release}; its architecture and width must stay", model


def _run(folder: RunFolder) -> Mapping[str, Any] | None:
    try:
        record = read_record(folder)
    except AtollError:
        # Its damage is told by the commands that need that run.
        return None
    return record.manifest if record else None


def _has_weights(store: Store, width: float) -> bool:
    baked = os.environ.get(ENV_WEIGHTS_DIR)
    names = imagenet_names(width)
    return any((Path(baked) / name).is_file() for name in names if baked) or any(
        store.head(keys.weights(name)) is not None for name in names
    )


# Of the ImageNet weights that a train image can be built with (images/external.lock).
IMAGE_WIDTH = 1.0


def cluster_place(
    cluster: Cluster,
    namespace: str,
    *,
    release: str | None,
    profile: str = DEFAULT_REF,
    object_store: str = DEFAULT_REF,
) -> Place:
    """The cluster as its user sees it; what this user may not read is taken as not there.

    Raises:
        SpecError: there is no such release, or the run that made it is gone.
        ClusterError: the API server does not answer, or refuses to list the namespace's runs.
    """
    from atoll_operator.kube.objects import RUNS

    runs = tuple(cluster.list_all(RUNS, namespace))
    found, unknown = _profile(cluster, profile)
    resource = _gpu(cluster, found)
    offer = f"which offers {resource}" if resource else unknown or "on CPUs"
    start, start_words, model = _start_cluster_place(cluster, namespace, runs, release)
    return Place(
        f"TrainingProfile {profile}, {offer}",
        namespace,
        cluster=True,
        start=start,
        start_words=start_words,
        runs=runs,
        taken=frozenset(str(run["metadata"]["name"]) for run in runs),
        gpu=resource is not None,
        most_steps=min(MOST_STEPS, found.limits.max_steps) if found else MOST_STEPS,
        model=model,
        profile=profile,
        estimate=found.estimate if found else None,
        object_store=object_store,
    )


def _profile(cluster: Cluster, name: str) -> tuple[TrainingProfileSpec | None, str]:
    """The profile, or words on why it is not known."""
    from atoll_operator.kube.objects import PROFILES

    try:
        body = cluster.read(PROFILES, None, name)
    except Forbidden:
        return None, "which you may not read, so it is taken for one with CPUs"
    return (training_profile(body), "") if body is not None else (None, "which does not exist yet")


def _gpu(cluster: Cluster, profile: TrainingProfileSpec | None) -> str | None:
    """The profile's GPU resource, where it has an image for it and a node offers one. A user who may not list nodes
    takes the profile's word."""
    from atoll_operator.kube.objects import NODES

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


def _start_cluster_place(
    cluster: Cluster, namespace: str, runs: tuple[Mapping[str, Any], ...], release: str | None
) -> tuple[Start, str, str | None]:
    if release is None:
        if _lacks_weights(runs):
            return Start(InitFrom.RANDOM), "the last run from imagenet ended with WeightsNotFound", None
        words = 'if a run ends with WeightsNotFound: atoll push --weights FILE, or "random" and twice the steps'
        return Start(InitFrom.IMAGENET, width=IMAGE_WIDTH), words, None
    from atoll_operator.kube.objects import RELEASES

    model, _ = release_parts(release)
    found = cluster.read(RELEASES, namespace, release)
    if found is None:
        raise SpecError(f"there is no ModelRelease {release} in namespace {namespace} (see atoll releases)")
    made_by = next((run for run in runs if run["metadata"]["uid"] == found["spec"]["runRef"].get("uid")), None)
    return release_start(release, made_by), f"goes on from {release}; its architecture and width must stay", model


def _lacks_weights(runs: tuple[Mapping[str, Any], ...]) -> bool:
    """Whether the newest run that said anything of ImageNet weights missed them."""
    told = []
    for run in runs:
        if run["spec"].get("training", {}).get("initFrom", {}).get("type", "imagenet") != InitFrom.IMAGENET:
            continue
        status = run.get("status") or {}
        stages = {item.get("name"): item for item in status.get("stages") or ()}
        if status.get("reason") == Reason.WEIGHTS_NOT_FOUND:
            told.append((run["metadata"]["creationTimestamp"], True))
        elif stages.get("train", {}).get("phase") == "Succeeded":
            told.append((run["metadata"]["creationTimestamp"], False))
    return max(told)[1] if told else False
