"""ModelReleases and EdgeDevices."""

from typing import Any

from support.crd_cases.case import Case, Document, accepted, changed, refused
from support.crd_cases.runs import DIGEST

RELEASE: Document = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "ModelRelease",
    "metadata": {"name": "note-v3"},
    "spec": {
        "model": "note",
        "version": 3,
        "channel": "stable",
        "runRef": {"name": "note", "uid": "6f1c1c62-8f0e-4c6e-9a55-2f2a5a1f7c11"},
        "objectStoreRef": {"name": "default"},
        "modelDigest": DIGEST,
    },
}
DEVICE: Document = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "EdgeDevice",
    "metadata": {"name": "pi-front"},
    "spec": {"model": "note", "channel": "stable"},
}
_NAME = "metadata.name must be <spec.model>-v<spec.version>"


def release(name: str = "note-v3", **spec: Any) -> Document:
    return changed(RELEASE, {"metadata": {"name": name}, "spec": spec})


RELEASE_CASES: tuple[Case, ...] = (
    accepted("release", RELEASE),
    accepted("release-of-a-model-with-version", release("yolo-v8-v12", model="yolo-v8", version=12)),
    refused("release-of-another-version", release("note-v4"), _NAME),
    refused("release-of-another-model", release("other-v3"), _NAME),
    refused("release-with-leading-zero", release("note-v03"), _NAME),
    refused("release-without-version", release("note"), _NAME),
    refused("release-0", release("note-v0", version=0), "greater than or equal to 1"),
    refused("release-digest", release(modelDigest="abc"), "should match"),
    refused("release-update", release(channel="candidate"), "a ModelRelease is immutable", old=RELEASE),
    accepted("release-labels", changed(RELEASE, {"metadata": {"labels": {"a": "b"}}}), old=RELEASE),
    accepted("device", DEVICE),
    refused("device-model", changed(DEVICE, {"spec": {"model": "No"}}), "should match"),
    refused("device-channel", changed(DEVICE, {"spec": {"channel": "a/b"}}), "should match"),
    accepted("device-changes", changed(DEVICE, {"spec": {"channel": "candidate"}}), old=DEVICE),
)
