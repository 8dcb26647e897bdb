"""Writes a set of labelled images in the formats of other people's libraries: `write_formats.py SET OUT`.

It runs in an environment of its own, without Atoll. SET is a folder with `set.json` and the images.
"""

# The libraries are in no environment that mypy sees.
# mypy: disable-error-code="import-not-found"

import json
import logging
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datumaro
import numpy as np
import supervision
from datumaro.components.annotation import Bbox
from label_studio_sdk.converter import Converter
from labelformat.formats import (
    COCOObjectDetectionOutput,
    CVATObjectDetectionOutput,
    PascalVOCObjectDetectionOutput,
    YOLOv8ObjectDetectionOutput,
)
from labelformat.model.bounding_box import BoundingBox
from labelformat.model.category import Category
from labelformat.model.image import Image
from labelformat.model.object_detection import ImageObjectDetection, ObjectDetectionInput, SingleObjectDetection

SPLITS = ("train", "val")


class LabelledSet:
    """The set in SET; `images` are those of one split, or all."""

    def __init__(self, folder: Path) -> None:
        document = json.loads((folder / "set.json").read_text())
        self.folder = folder
        self.classes: list[str] = document["classes"]
        self._images: list[dict[str, Any]] = document["images"]

    def images(self, split: str = "") -> list[dict[str, Any]]:
        return [image for image in self._images if split in ("", image["split"])]

    def copy_images(self, folder: Path, split: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for image in self.images(split):
            shutil.copy(self.folder / image["name"], folder)


def by_datumaro(source: LabelledSet, out: Path, form: str) -> None:
    items = []
    for image in source.images():
        boxes = [
            Bbox(left, top, right - left, bottom - top, label=source.classes.index(label), id=number, group=0)
            for number, (label, left, top, right, bottom) in enumerate(image["boxes"])
        ]
        media = datumaro.Image.from_file(path=str(source.folder / image["name"]))
        name = Path(image["name"]).stem
        items.append(datumaro.DatasetItem(id=name, subset=image["split"], media=media, annotations=boxes))
    dataset = datumaro.Dataset.from_iterable(items, categories=source.classes)
    dataset.export(str(out), form, save_media=True)


class LabelformatInput(ObjectDetectionInput):  # type: ignore[misc]
    """The images of a split as labelformat takes them."""

    def __init__(self, source: LabelledSet, split: str) -> None:
        self._categories = [Category(number, name) for number, name in enumerate(source.classes)]
        self._source = source.images(split)
        self._images = [Image(number, image["name"], *image["size"]) for number, image in enumerate(self._source)]

    @staticmethod
    def add_cli_arguments(parser: ArgumentParser) -> None:
        """There is no command line."""

    def get_categories(self) -> Iterable[Any]:
        return self._categories

    def get_images(self) -> Iterable[Any]:
        return self._images

    def get_labels(self) -> Iterable[Any]:
        by_name = {category.name: category for category in self._categories}
        for image, source in zip(self._images, self._source, strict=True):
            boxes = [SingleObjectDetection(by_name[label], BoundingBox(*edges)) for label, *edges in source["boxes"]]
            yield ImageObjectDetection(image, boxes)


def by_labelformat(source: LabelledSet, out: Path, form: str) -> None:
    for split in SPLITS:
        folder, labels = out / split, LabelformatInput(source, split)
        match form:
            case "coco":
                COCOObjectDetectionOutput(folder / "labels.json").save(labels)
            case "cvat":
                CVATObjectDetectionOutput(folder, "task").save(labels)
            case "voc":
                PascalVOCObjectDetectionOutput(folder / "annotations").save(labels)
            case "yolo":
                YOLOv8ObjectDetectionOutput(folder / "data.yaml", split).save(labels)
        source.copy_images(folder / "images", split)


def by_supervision(source: LabelledSet, out: Path, form: str) -> None:
    for split in SPLITS:
        annotations = {}
        for image in source.images(split):
            edges = np.array([box[1:] for box in image["boxes"]], dtype=float).reshape(-1, 4)
            numbers = np.array([source.classes.index(box[0]) for box in image["boxes"]], dtype=int)
            annotations[str(source.folder / image["name"])] = supervision.Detections(xyxy=edges, class_id=numbers)
        dataset = supervision.DetectionDataset(source.classes, list(annotations), annotations)
        images, folder = str(out / split / "images"), out / split
        folder.mkdir(parents=True)
        match form:
            case "coco":
                dataset.as_coco(images, str(folder / "annotations.json"))
            case "createml":
                dataset.as_createml(str(folder), str(folder / "_annotations.createml.json"))
            case "labelme":
                dataset.as_labelme(str(folder), str(folder))
            case "voc":
                dataset.as_pascal_voc(images, str(folder / "annotations"))
            case "yolo":
                dataset.as_yolo(images, str(folder / "labels"), str(folder / "data.yaml"))


def by_label_studio(source: LabelledSet, out: Path, form: str) -> None:
    """Label Studio knows no split; its uploads have eight digits before their names."""
    uploads = out.parent / ".uploads" / out.name
    tasks = []
    for number, image in enumerate(source.images()):
        upload = f"{number:08x}-{image['name']}"
        # The folder of an upload has the number of its project.
        (uploads / "1").mkdir(parents=True, exist_ok=True)
        shutil.copy(source.folder / image["name"], uploads / "1" / upload)
        width, height = image["size"]
        results = [
            {
                "id": f"box{at}",
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "x": 100 * left / width,
                    "y": 100 * top / height,
                    "width": 100 * (right - left) / width,
                    "height": 100 * (bottom - top) / height,
                    "rotation": 0,
                    "rectanglelabels": [label],
                },
            }
            for at, (label, left, top, right, bottom) in enumerate(image["boxes"])
        ]
        annotation = {"id": number + 1, "was_cancelled": False, "completed_by": 1, "result": results}
        tasks.append({"id": number + 1, "data": {"image": f"/data/upload/1/{upload}"}, "annotations": [annotation]})
    labels = "".join(f'<Label value="{name}"/>' for name in source.classes)
    controls = f'<RectangleLabels name="label" toName="image">{labels}</RectangleLabels>'
    out.mkdir(parents=True)
    document = uploads / "tasks.json"
    document.write_text(json.dumps(tasks))
    view = f'<View><Image name="image" value="$image"/>{controls}</View>'
    converter = Converter(view, project_dir=str(uploads), upload_dir=str(uploads))
    converter.convert(str(document), str(out), form, is_dir=False)


# The name of a folder in OUT, who writes it, and the name of the format there.
WRITERS: dict[str, tuple[Callable[[LabelledSet, Path, str], None], str]] = {
    "datumaro-coco": (by_datumaro, "coco_instances"),
    "datumaro-cvat": (by_datumaro, "cvat"),
    "datumaro-labelme-xml": (by_datumaro, "label_me"),
    "datumaro-voc": (by_datumaro, "voc_detection"),
    "datumaro-yolo": (by_datumaro, "yolo"),
    "datumaro-yolo-ultralytics": (by_datumaro, "yolo_ultralytics"),
    **{f"labelformat-{form}": (by_labelformat, form) for form in ("coco", "cvat", "voc", "yolo")},
    **{f"supervision-{form}": (by_supervision, form) for form in ("coco", "createml", "labelme", "voc", "yolo")},
    "label-studio-coco": (by_label_studio, "COCO_WITH_IMAGES"),
    "label-studio-voc": (by_label_studio, "VOC"),
    "label-studio-yolo": (by_label_studio, "YOLO_WITH_IMAGES"),
    "label-studio-yolo-obb": (by_label_studio, "YOLO_OBB_WITH_IMAGES"),
}


def main(folder: Path, out: Path) -> None:
    logging.disable(logging.WARNING)
    for name, (write, form) in WRITERS.items():
        write(LabelledSet(folder), out / name, form)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
