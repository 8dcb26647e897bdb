"""A gallery of a dataset: thumbnails of some of its images with their boxes, to look at before a training."""

import hashlib
import heapq
import io
from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from atoll_contract.document import to_json
from atoll_contract.tool_reports import GALLERY_FILE, Gallery, GalleryBox, GalleryImage
from atoll_stages.convert.example_store import ExampleStore, StoredExample

IMAGES_PER_CLASS = 24
# Of all classes together: some 8 MB.
MAX_IMAGES = 400
MAX_BOXES_PER_IMAGE = 300
_SIDE = 320
_QUALITY = 75
# Images without a box are chosen as if they were of a class of their own.
_NO_BOX = ""


def write_gallery(store: ExampleStore, folder: Path) -> None:
    """Writes thumbnails and `gallery.json` into `folder`: for each class some images, the same for the same data."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = set(_chosen(store))
    images = [_write_image(store, item, folder) for item in store.examples() if item.id in chosen]
    (folder / GALLERY_FILE).write_bytes(to_json(Gallery(tuple(images))))


def _chosen(store: ExampleStore) -> Iterator[int]:
    """The numbers of at most MAX_IMAGES examples; each class has its turn until it has enough."""
    by_class: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for example in store.examples():
        # Neighbouring frames look alike: the order of a hash mixes them. The heap's first is the highest hash.
        entry = (-int(hashlib.sha256(example.name.encode()).hexdigest()[:12], 16), example.id)
        for label in {box.label for box in example.boxes} or {_NO_BOX}:
            heap = by_class[label]
            heapq.heappush(heap, entry)
            if len(heap) > IMAGES_PER_CLASS:
                heapq.heappop(heap)
    columns = [sorted(heap, reverse=True) for _, heap in sorted(by_class.items())]
    found: dict[int, None] = {}
    for row in zip_longest(*columns):
        found.update(dict.fromkeys(entry[1] for entry in row if entry is not None))
        if len(found) >= MAX_IMAGES:
            break
    yield from list(found)[:MAX_IMAGES]


def _write_image(store: ExampleStore, example: StoredExample, folder: Path) -> GalleryImage:
    file = f"{example.id}.jpg"
    with Image.open(io.BytesIO(store.jpeg(example))) as image:
        image.thumbnail((_SIDE, _SIDE))
        image.convert("RGB").save(folder / file, quality=_QUALITY)
        width, height = image.size
    boxes = tuple(GalleryBox(item.label, *item.box) for item in example.boxes[:MAX_BOXES_PER_IMAGE])
    return GalleryImage(file, example.name, example.split or "", width, height, boxes)
