"""The Helm values that name the images just built."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

HEADER = "# Written by `make images`: the images of charts/atoll as they were built here.\n"


@dataclass(frozen=True)
class ImageReference:
    """An image by tag, or by digest once it was pushed."""

    registry: str
    repository: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        # Without a registry the engines and containerd would each add one of their own.
        return f"{self.registry or 'localhost'}/{self.repository}:{self.tag}"

    def with_digest(self, digest: str) -> "ImageReference":
        return replace(self, digest=digest)

    def values(self) -> dict[str, str]:
        return {
            "registry": self.registry or "localhost",
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
        }


def write_values(path: Path, references: Mapping[str, ImageReference]) -> None:
    """JSON, which is YAML: no library is needed to write it right."""
    names = {"train-gpu": "trainGPU"}
    stages = {
        names.get(image, image): reference.values()
        for image, reference in references.items()
        if image not in {"operator", "edge"}
    }
    document: dict[str, object] = {"images": stages}
    if "operator" in references:
        document["image"] = references["operator"].values()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + json.dumps(document, indent=2) + "\n", encoding="utf-8")
