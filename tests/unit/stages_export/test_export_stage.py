"""The export stage on a store: its documents, the failing gate, and a report without any network."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atoll_contract import __version__
from atoll_contract import images as preprocess
from atoll_contract.detector_head import DetectorHead
from atoll_contract.document import from_json, replace, to_dict
from atoll_contract.errors import AtollError, Reason, exit_code
from atoll_contract.images import Preprocessing, Resize
from atoll_contract.stage import ExportSpec, QualityGates
from atoll_contract.tflite import read_model
from atoll_contract.train_spec import Architecture
from atoll_stages.export.converter import kept_detections
from atoll_stages.export.inference import ExportedModel
from atoll_stages.export.sample_images import expected_detections
from atoll_stages.export.stage import export
from atoll_stages.runtime.context import StageContext
from atoll_stages.train.detections import in_image
from support.detection_data import CLASSES, labelled_image, labelled_images
from support.exporting import TRAIN, export_context
from support.tflite_metadata import read_metadata

pytestmark = pytest.mark.timeout(300)

# The validation part of `store_dataset`.
VALIDATION = labelled_images(3, first=1000)


class Page(HTMLParser):
    """Every address and every tag of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]


def test_a_failed_gate_keeps_every_artifact_and_the_report_needs_no_network(tmp_path: Path) -> None:
    done = export_context(tmp_path, QualityGates(min_ap50=0.99, min_mapped_percent=50.0))
    outcome = export(done)
    assert outcome.reason is Reason.QUALITY_GATE_FAILED
    assert exit_code(outcome.reason) == 45
    assessment = "finds almost nothing (AP50 0.00): do not use it"
    assert outcome.message.startswith(f"{assessment}; nothing is published, as minAP50: measured")
    assert outcome.summary["assessment"] == assessment
    assert "minMappedPercent" not in outcome.message
    names = [item.name for item in outcome.outputs]
    assert names[:4] == ["model", "labels", "metrics", "mapping"]
    assert {"golden", "report"} <= set(names)
    model = next(done.store.get(item.key) for item in outcome.outputs if item.name == "model")
    assert read_metadata(model).labels == CLASSES
    golden = next(done.store.get(item.key) for item in outcome.outputs if item.name == "golden")
    # Publishing finds an image's boxes by its artifact's name.
    assert {entry["name"] for entry in json.loads(golden)} == {name for name in names if name.startswith("golden-")}
    assert set(outcome.summary) == {"metrics", "predictedMappedPercent", "split", "assessment"}
    metrics = json.loads(next(done.store.get(item.key) for item in outcome.outputs if item.name == "metrics"))
    assert metrics["thresholds"] == dict.fromkeys(CLASSES, 0.5)
    assert set(metrics["scoresBefore"]) == set(CLASSES)
    for item in outcome.outputs:
        info = done.store.head(item.key)
        assert info is not None
        assert info.size == item.size
    _check_page(next(done.store.get(item.key).decode() for item in outcome.outputs if item.name == "report"))


def _check_page(text: str) -> None:
    page = Page()
    page.feed(text)
    images = [address for address in page.addresses if address.startswith("data:image/jpeg;base64,")]
    assert images
    # All else is in the page, or beside it.
    assert {item for item in page.addresses if not item.startswith("#")} - set(images) == {"unoptimized.tflite"}
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"https?://|@import|url\(|//\w", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert "&lt;b&gt;run &amp; co&lt;/b&gt;" in text
    assert f"by Atoll {__version__}" in text
    for section in (
        "Quality gates",
        "Classes",
        "Pictures",
        "Training pictures",
        "Training",
        "Edge TPU",
        "Dataset",
        "Settings",
    ):
        assert re.search(rf'<h2 id="[a-z-]+">{section}</h2>', text)
    assert {"svg", "img", "table"} <= page.tags


def test_weights_of_another_detector_are_refused(tmp_path: Path) -> None:
    given = export_context(tmp_path, QualityGates())
    other = replace(TRAIN, architecture=Architecture.FPNLITE_320)
    spec = replace(given.input, export=ExportSpec(other))
    with pytest.raises(AtollError, match="the weights are of") as raised:
        export(StageContext(spec, given.store, given.work))
    assert raised.value.reason is Reason.INTEGRITY_MISMATCH


@pytest.mark.parametrize(("objects", "kept"), [(0, 25), (5, 25), (30, 60), (400, 100)])
def test_the_number_of_kept_detections_follows_the_busiest_image(objects: int, kept: int) -> None:
    example = replace(labelled_image(0), labels=np.zeros(objects, np.int32))
    assert kept_detections(ExportSpec(TRAIN), [example]) == kept


def test_a_letterbox_model_is_exported_as_one(tmp_path: Path) -> None:
    """The file says so, and a device makes of the golden images the very inputs that export measured with."""
    given = export_context(tmp_path, QualityGates())
    spec = ExportSpec(replace(TRAIN, preprocessing=Preprocessing(Resize.LETTERBOX)), for_targets=True)
    outcome = export(StageContext(replace(given.input, export=spec), given.store, given.work))
    stored = {item.name: given.store.get(item.key) for item in outcome.outputs}
    assert read_model(stored["model"]).resize is Resize.LETTERBOX
    assert from_json(DetectorHead, stored["detector"]).resize is Resize.LETTERBOX
    side, model = TRAIN.architecture.side, ExportedModel(stored["model"])
    measured = [preprocess.decode(example.encoded, side, Resize.LETTERBOX) for example in VALIDATION]
    for entry in json.loads(stored["golden"]):
        with Image.open(io.BytesIO(stored[entry["name"]])) as image:
            assert (image.width, image.height) == (side, side * 3 // 4)
            pixels = preprocess.resize(image, side, Resize.LETTERBOX)
            region = preprocess.image_region(image.size, side, Resize.LETTERBOX)
        assert any(np.array_equal(pixels, wanted) for wanted in measured)
        found = expected_detections(in_image(model.detect(pixels), region))
        assert [to_dict(item) for item in found] == entry["expected"]
