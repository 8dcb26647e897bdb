"""Checks whether the nodes have the images that no registry has, and whether k3s would bring them back."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_cli.doctor.facts import Body, Facts, component, pod_spec
from atoll_cli.doctor.result import CheckResult, fail, ok, warn

# The kubelet lists so many images of a node at most (nodeStatusMaxImages).
MAX_LISTED = 50
_K3S_FOLDER = "/var/lib/rancher/k3s"
_LOAD = "on that machine: make images && make load TARGET=k3s (or kind)"


@dataclass(frozen=True)
class K3sArchives:
    """The images in the archives that k3s imports at each start. `error` says why they could not be read."""

    folder: Path
    images: frozenset[str] = frozenset()
    error: str = ""


def k3s_images_folder() -> Path:
    """Where k3s of this machine, if it has one, looks for archives of images."""
    return Path(os.environ.get("K3S_DATA_DIR") or _K3S_FOLDER) / "agent" / "images"


def read_archives(folder: Path) -> K3sArchives | None:
    """The images in k3s' folder; None where this machine has no such folder."""
    found: set[str] = set()
    try:
        if not folder.is_dir():
            return None
        for path in sorted(folder.glob("*.tar*")):
            found |= _tags(path)
    except OSError as error:
        return K3sArchives(folder, error=f"{error.filename or folder}: {error.strerror}")
    return K3sArchives(folder, frozenset(found))


def _tags(path: Path) -> set[str]:
    """The names of the images in an archive of docker, podman or buildah; none where it is another file."""
    try:
        with tarfile.open(path) as archive:
            listed = archive.extractfile("manifest.json")
            entries: Any = json.load(listed) if listed is not None else []
        return {full_name(tag) for entry in entries for tag in entry.get("RepoTags") or ()}
    except (tarfile.TarError, KeyError, ValueError, AttributeError, TypeError):
        return set()


def full_name(image: str) -> str:
    """The image with registry and tag, as a node names it."""
    name, at, digest = image.partition("@")
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    if at:
        return f"{name.rpartition(':')[0] or name}@{digest}" if ":" in name.rpartition("/")[2] else f"{name}@{digest}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def check_images(facts: Facts, archives: K3sArchives | None) -> Iterator[CheckResult]:
    """Images without a registry on the nodes that would run them, and in k3s' folder."""
    if facts.nodes.error:
        yield warn("images", facts.nodes.error, "have somebody run this who may list nodes")
        return
    used = _used_images(facts)
    local = {image: users for image, users in used.items() if full_name(image).startswith("localhost/")}
    missing = False
    for image, users in sorted(local.items()):
        result = _presence(facts, image, users)
        missing = missing or result is not None
        if result is not None:
            yield result
    if not missing:
        pulled = len(used) - len(local)
        yield ok("images", f"{len(local)} images are on the nodes, {pulled} come from a registry")
    if archives is not None and local:
        yield from _pinning(archives, sorted(local))


def _used_images(facts: Facts) -> dict[str, list[str]]:
    """Every image that the charts and the profiles name, and what uses it."""
    used: dict[str, list[str]] = {}
    for workload in facts.workloads:
        for container in pod_spec(workload)["containers"]:
            used.setdefault(container["image"], []).append(component(workload) or workload["metadata"]["name"])
    for profile in facts.profiles:
        for stage, image in (profile["spec"].get("images") or {}).items():
            if image:
                used.setdefault(image, []).append(f"{stage} of TrainingProfile {profile['metadata']['name']}")
    return used


def _presence(facts: Facts, image: str, users: list[str]) -> CheckResult | None:
    text = f"{image} ({', '.join(users)})"
    always = [item["metadata"]["name"] for item in facts.profiles if _always_pulls(item, image)]
    if always:
        advice = "set imagePullPolicy: IfNotPresent there"
        return fail("images", f"{text} is in no registry, and TrainingProfile {', '.join(always)} always pulls", advice)
    nodes = [item for item in facts.nodes if not (item["spec"] or {}).get("unschedulable")]
    without = [item for item in nodes if full_name(image) not in _images_of(item)]
    if not without:
        return None
    names = ", ".join(item["metadata"]["name"] for item in without)
    if any(len(item["status"].get("images") or ()) >= MAX_LISTED for item in without):
        text = f"{text}: node {names} lists {MAX_LISTED} images at most, and not this one; it may be there all the same"
        return warn("images", text, "on that machine: k3s crictl images")
    if len(without) == len(nodes):
        return fail("images", f"{text} is on no node, and no registry has it", _LOAD)
    return warn(
        "images", f"{text} is not on node {names}, and no registry has it", f"{_LOAD}, or give it a nodeSelector"
    )


def _always_pulls(profile: Body, image: str) -> bool:
    spec = profile["spec"]
    return spec.get("imagePullPolicy") == "Always" and image in (spec.get("images") or {}).values()


def _images_of(node: Body) -> set[str]:
    listed = (node.get("status") or {}).get("images") or ()
    return {full_name(name) for item in listed for name in item.get("names") or ()}


def _pinning(archives: K3sArchives, local: list[str]) -> Iterator[CheckResult]:
    if archives.error:
        yield warn("archives", f"k3s' folder of images cannot be read: {archives.error}", "run this with sudo")
        return
    lost = [image for image in local if full_name(image) not in archives.images]
    if lost:
        text = f"no archive in {archives.folder} has {', '.join(lost)}: once the kubelet removes it, it is gone"
        yield warn("archives", text, "make load TARGET=k3s writes the archives that k3s imports at each start")
    else:
        yield ok("archives", f"k3s brings all {len(local)} images back from {archives.folder}")
