"""Any values in an annotation: examples, counted problems, or one DatasetError; never another exception."""

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_contract.errors import DatasetError
from atoll_stages.convert.boxes import clip_box
from support.archives import CSV_HEADER, coco, jpeg, meta, supervisely, voc, yolo
from support.reader_result import ReaderResult

SCALAR = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)
)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.lists(st.integers(-50, 100) | SCALAR, min_size=2, max_size=2)
TEXT = st.text("0123456789.,-+eE \"'nainf\n\tnote", max_size=40)

OBJECT = st.fixed_dictionaries(
    {},
    optional={
        "geometryType": st.sampled_from(["rectangle", "polygon", "bitmap", "line"]) | JSON,
        "classTitle": st.just("note") | JSON,
        "classId": st.just(10) | JSON,
        "points": st.fixed_dictionaries({"exterior": st.lists(NUMBERS, max_size=4)}) | JSON,
        "bitmap": JSON,
    },
)


def survives(files: dict[str, bytes]) -> None:
    """Reads the files and clips every box."""
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(DatasetError):
        result = ReaderResult(files, Path(name))
        for image in result.images:
            for box in image.boxes:
                clip_box(box, width=64, height=48)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {}, optional={"objects": st.lists(OBJECT | JSON, max_size=3) | JSON, "size": JSON, "tags": JSON, "name": JSON}
    )
    | JSON
)
def test_any_supervisely_annotation(document: Any) -> None:
    files = supervisely(1)
    survives({**files, "game/ds0/ann/frame_00000.jpg.json": json.dumps(document).encode()})


@settings(max_examples=30)
@given(st.lists(st.fixed_dictionaries({}, optional={"title": JSON, "id": JSON}) | JSON, max_size=3) | JSON)
def test_any_supervisely_meta(classes: Any) -> None:
    survives({**supervisely(1), "game/meta.json": json.dumps({"classes": classes}).encode()})


ID = st.integers(0, 2) | JSON
COCO = st.fixed_dictionaries(
    {
        "images": st.lists(
            st.fixed_dictionaries(
                {"id": ID, "file_name": st.just("p0000.jpg") | st.text(max_size=9) | JSON},
                optional={"width": JSON, "height": JSON},
            ),
            max_size=2,
        ),
        "annotations": st.lists(
            st.fixed_dictionaries(
                {"image_id": ID, "category_id": ID},
                optional={"bbox": st.lists(SCALAR, max_size=4) | JSON, "segmentation": JSON, "iscrowd": JSON},
            ),
            max_size=3,
        ),
        "categories": st.lists(st.fixed_dictionaries({"id": ID, "name": st.just("note") | JSON}), max_size=2),
    }
)


@settings(max_examples=80)
@given(COCO)
def test_any_coco_document(document: Any) -> None:
    survives({**coco(1), "_annotations.coco.json": json.dumps(document).encode()})


@settings(max_examples=40)
@given(TEXT, st.sampled_from(["name", "xmin", "width", "filename"]))
def test_any_text_in_voc(text: str, element: str) -> None:
    good = voc(1)["Annotations/p0000.xml"].decode()
    start = good.index(f"<{element}>") + len(element) + 2
    changed = good[:start] + text + good[good.index(f"</{element}>") :]
    survives({**voc(1), "Annotations/p0000.xml": changed.encode()})


@settings(max_examples=40)
@given(TEXT, TEXT)
def test_any_text_in_yolo(labels: str, names: str) -> None:
    files = yolo(1)
    survives({**files, "labels/train/p0000.txt": labels.encode()})
    survives({**files, "data.yaml": b"names: " + names.encode()})


@settings(max_examples=40)
@given(TEXT)
def test_any_text_in_csv(rows: str) -> None:
    survives({"train/_annotations.csv": (CSV_HEADER + rows).encode(), "train/p.jpg": jpeg(), "game/meta": meta()})


@settings(max_examples=60)
@given(
    st.sampled_from(["box", "polygon", "ellipse", "mask", "cuboid", "skeleton", "points", "tag"]),
    st.dictionaries(
        st.sampled_from(
            ["label", "xtl", "ytl", "xbr", "ybr", "points", "rotation", "cx", "rx", "left", "xtl1", "ytl1"]
        ),
        st.text("0123456789.,;-+eE nainf", max_size=12),
    ),
)
def test_any_values_in_cvat(shape: str, attributes: dict[str, str]) -> None:
    element = f"<{shape} " + " ".join(f'{name}="{value}"' for name, value in attributes.items()) + "/>"
    xml = f'<annotations><image id="0" name="p.jpg" width="64" height="48">{element}</image></annotations>'
    survives({"annotations.xml": xml.encode(), "images/p.jpg": jpeg()})
