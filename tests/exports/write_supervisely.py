"""Writes a set of labelled images by Supervisely's own SDK: `write_supervisely.py SET OUT`.

It runs in an environment of its own, without Atoll. SET is a folder with `set.json` and the images.
"""

# The libraries are in no environment that mypy sees.
# mypy: disable-error-code="import-not-found"

import json
import sys
from pathlib import Path

import supervisely as sly


def main(folder: Path, out: Path) -> None:
    document = json.loads((folder / "set.json").read_text())
    classes = {name: sly.ObjClass(name, sly.Rectangle) for name in document["classes"]}
    project = sly.Project(str(out / "supervisely"), sly.OpenMode.CREATE)
    kind = sly.ProjectType.IMAGES.value
    project.set_meta(sly.ProjectMeta(obj_classes=sly.ObjClassCollection(list(classes.values())), project_type=kind))
    for split in ("train", "val"):
        dataset = project.create_dataset(split)
        for image in document["images"]:
            if image["split"] == split:
                width, height = image["size"]
                labels = [
                    sly.Label(sly.Rectangle(top=top, left=left, bottom=bottom, right=right), classes[label])
                    for label, left, top, right, bottom in image["boxes"]
                ]
                annotation = sly.Annotation((height, width), labels)
                dataset.add_item_file(image["name"], str(folder / image["name"]), ann=annotation)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
