"""Checks whether any node offers the GPU that the profiles ask for."""

from __future__ import annotations

from collections.abc import Iterator

from atoll_cli.doctor.facts import Body, Facts
from atoll_cli.doctor.result import CheckResult, fail, ok, warn


def check_profiles(facts: Facts) -> Iterator[CheckResult]:
    """Profiles, and their GPUs."""
    if facts.is_edge_only:
        return
    if facts.profiles.error:
        yield warn("profiles", facts.profiles.error, "have somebody run this who may list TrainingProfiles")
        return
    if not facts.profiles.items:
        advice = "write one below profiles in the chart's values (values-quickstart.yaml shows it), and helm upgrade"
        yield fail("profiles", "there is no TrainingProfile, so that no run can start", advice)
        return
    if facts.nodes.error:
        return
    for profile in facts.profiles:
        name = profile["metadata"]["name"]
        resource = (profile["spec"].get("gpu") or {}).get("resourceName") or "nvidia.com/gpu"
        offering = [item["metadata"]["name"] for item in facts.nodes if _amount(item, resource) > 0]
        has_image = bool((profile["spec"].get("images") or {}).get("trainGPU"))
        if offering and has_image:
            yield ok("gpu", f"TrainingProfile {name}: {resource} is on node {', '.join(offering)}")
        elif offering:
            names = ", ".join(offering)
            text = f"TrainingProfile {name}: node {names} offers {resource}, and spec.images.trainGPU is empty"
            yield warn("gpu", text, "make images IMAGES=train-gpu, load it, and name it in the profile")
        elif has_image:
            text = f"TrainingProfile {name}: no node offers {resource}; runs train on the CPU"
            yield warn(
                "gpu", text, f"install the device plugin of the GPU, and see kubectl describe node for {resource}"
            )
        else:
            yield ok("gpu", f"TrainingProfile {name} trains on the CPU")


def _amount(node: Body, resource: str) -> int:
    status = node.get("status") or {}
    text = str((status.get("allocatable") or {}).get(resource, "0"))
    return int(text) if text.isdecimal() else 0
