"""What a test has no camera, no hands and no labelling tool for, made from the sample: films and corrected labels.

Each picture of the sample stands still for a second in a film, as a camera that is carried from object to object. The
part `train` is filmed in the workshop, the part `val`, which the model never sees, on the field. A label is the
sample's own, of that picture which a frame shows.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from support.videos import write_video

SAMPLE = Path(__file__).parents[2] / "crds" / "samples" / "bccd-sample.tar"
SIZE = (640, 480)
RATE = 10
# The side of the small grey pictures by which a frame is recognised.
CELLS = 32


@dataclass(frozen=True)
class Labelled:
    """A picture of the sample at the film's size, and its boxes in Supervisely's words."""

    part: str
    pixels: NDArray[np.uint8]
    objects: list[dict[str, Any]]


def sample() -> list[Labelled]:
    with tarfile.open(SAMPLE) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
    found = []
    for name in sorted(name for name in members if "/img/" in name):
        project, part, _, picture = name.split("/")
        annotation = json.loads(members[f"{project}/{part}/ann/{picture}.json"])
        with Image.open(io.BytesIO(members[name])) as image:
            scale = (SIZE[0] / image.width, SIZE[1] / image.height)
            pixels = np.asarray(image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS))
        found.append(Labelled(part, pixels, [_scaled(item, scale) for item in annotation["objects"]]))
    return found


def film(path: Path, part: str) -> None:
    """The pictures of a part, one after the other."""
    pictures = [item.pixels for item in sample() if item.part == part]
    write_video(path, (picture for picture in pictures for _ in range(RATE)), rate=RATE)


def label(pictures: Path, archive: Path) -> int:
    """Write a Supervisely export of every JPEG below `pictures`, with the labels of what they show; how many."""
    known = sample()
    faces = np.stack([_face(Image.fromarray(item.pixels)) for item in known])
    project, dataset = archive.stem, "frames"
    files: dict[str, bytes] = {f"{project}/meta.json": _meta(known)}
    for path in sorted(pictures.rglob("*.jpg")):
        with Image.open(path) as image:
            size, face = image.size, _face(image.convert("RGB"))
        shown = known[int(np.argmin(np.abs(faces - face).mean(axis=(1, 2))))]
        scale = (size[0] / SIZE[0], size[1] / SIZE[1])
        document = {
            "description": "",
            "tags": [],
            "size": {"width": size[0], "height": size[1]},
            "objects": [_scaled(item, scale) for item in shown.objects],
        }
        files[f"{project}/{dataset}/img/{path.name}"] = path.read_bytes()
        files[f"{project}/{dataset}/ann/{path.name}.json"] = json.dumps(document).encode()
    _write(archive, files)
    return (len(files) - 1) // 2


def _face(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("L").resize((CELLS, CELLS), Image.Resampling.BOX), np.float32)


def _scaled(item: Mapping[str, Any], scale: tuple[float, float]) -> dict[str, Any]:
    corners = [[round(x * scale[0]), round(y * scale[1])] for x, y in item["points"]["exterior"]]
    return {**item, "points": {"exterior": corners, "interior": []}}


def _meta(known: list[Labelled]) -> bytes:
    titles = sorted({item["classTitle"] for picture in known for item in picture.objects})
    classes = [{"title": title, "shape": "rectangle", "color": "#F8E71C"} for title in titles]
    return json.dumps({"classes": classes, "tags": [], "projectType": "images"}).encode()


def _write(archive: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(archive, "w") as tar:
        for name, data in _sorted(files):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _sorted(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    return iter(sorted(files.items()))
