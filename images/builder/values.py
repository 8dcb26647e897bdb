"""The Helm values that name the images just built."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import EngineError

HEADER = "# Written by `make images`: the images of charts/atoll as they were built here.\n"
_VALUE_NAMES = {"train-gpu": "trainGPU", "compile-rknn": "compileRKNN", "compile-qnn": "compileQNN"}


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


def write_values(path: Path, references: Mapping[str, ImageReference], *, imagenet_width: str = "") -> list[str]:
    """Name these images beside those that the file names already; what of it stays as it was. `imagenet_width` is the
    width of the weights in the train image.

    JSON, which is YAML: no library is needed to write it right.

    Raises:
        EngineError: somebody changed the file so that it is no JSON any more.
    """
    document = read_values(path)
    stages = document.setdefault("images", {})
    kept = (["operator"] if "image" in document else []) + list(stages)
    for image, reference in references.items():
        if image == "operator":
            document["image"] = reference.values()
        elif image != "edge":
            stages[_VALUE_NAMES.get(image, image)] = reference.values()
    if "train" in references:
        document.pop("imagenetWeights", None)
        document |= {"imagenetWeights": imagenet_width} if imagenet_width else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + json.dumps(document, indent=2) + "\n", encoding="utf-8")
    written = {_VALUE_NAMES.get(image, image) for image in references}
    return [name for name in kept if name not in written]


def read_values(path: Path) -> dict[str, Any]:
    """What builds wrote into the file; empty if there is none.

    Raises:
        EngineError: somebody changed the file so that it is no JSON any more.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    try:
        document: dict[str, Any] = json.loads("\n".join(line for line in lines if not line.startswith("#")))
    except ValueError as error:
        raise EngineError(
            f"{path} is not as `make images` wrote it ({error}): keep your own values in another file, remove this one"
        ) from None
    return document
