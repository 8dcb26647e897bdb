"""The report: its first lines, its charts, and the page in a browser, wide and on a phone."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from atoll_contract.dataset import ClassCount, Dataset, SourceInfo, SplitPart
from atoll_contract.stage_result import Artifact
from atoll_stages.export.colors import PALETTE, class_color, class_rgb
from atoll_stages.export.dataset_charts import box_size_chart, label_counts
from atoll_stages.export.drawing import draw_network_input
from atoll_stages.export.edgetpu_mapping import EXPLANATIONS, MAPPED, UNSUPPORTED_TYPE, MappingReport, MappingRow
from atoll_stages.export.evaluation import Gate, Measurement, measure
from atoll_stages.export.evaluation_charts import MAX_CLASSES, drawn_classes, evaluation_charts
from atoll_stages.export.model_assessment import assess_model
from atoll_stages.export.reliability import measure_reliability
from atoll_stages.export.report import (
    MAX_NAME,
    Provenance,
    ReportData,
    describe_drop,
    render_report,
    shorten_name,
    source_names,
)
from atoll_stages.export.sample_images import select_images
from atoll_stages.export.score_calibration import ScoreCalibration
from atoll_stages.train.dataset import IGNORED_LABEL, PADDING_LABEL, Example
from atoll_stages.train.detections import Detections
from atoll_stages.train.history import Best, History, Point
from support.browser import Browser
from support.detection_data import labelled_images
from support.edge_screenshot import chromium
from support.report_images import MAX_BYTES, VIEWS, overflow, write_images

CLASSES = ("square", "disc")
LONG = "a_class_with_a_name_of_the_greatest_length_that_there_may_be_1234"
EXAMPLES = [
    replace(example, name=f"Match 12/camera left/frame_{number:05d}_of_the_second_recording_of_the_day.jpg")
    for number, example in enumerate(labelled_images(8))
]
HISTORY = History(
    start="random weights",
    accelerator="CPU",
    steps=100,
    step=100,
    best=Best(80, 0.9),
    images_per_second=40.0,
    seconds=126.0,
    parameters=1000,
    settings={},
    points=tuple(
        Point(step, 2.0 / step, 1.0 / step, 0.5, 0.01, step / 110 if step % 20 == 0 else None, 0.3 if step else None)
        for step in range(5, 101, 5)
    ),
)
MAPPING = MappingReport(
    True,
    120,
    121,
    99.2,
    (),
    True,
    (MappingRow("CONV_2D", 3, 120, MAPPED), MappingRow("TFLite_Detection_PostProcess", 1, 1, UNSUPPORTED_TYPE)),
)


def found_in(example: Example, *, seed: int) -> Detections:
    """Both objects with good scores, and an object of low score that is not there."""
    scores = 0.6 + 0.3 * np.random.default_rng(seed).random(2)
    boxes = np.concatenate([example.boxes, [[0.0, 0.0, 0.1, 0.1]]]).astype(np.float32)
    return Detections(boxes, np.array([0, 1, 0], np.int32), np.array([*scores, 0.3], np.float32))


def measured(classes: tuple[str, ...] = CLASSES) -> Measurement:
    detections = [found_in(example, seed=number) for number, example in enumerate(EXAMPLES)]
    return measure(
        split="validation",
        classes=classes,
        side=192,
        examples=EXAMPLES,
        float_detections=detections,
        int8_detections=detections,
    )


def dataset(classes: tuple[str, ...] = CLASSES, keys: tuple[str, ...] = ("datasets/local/field day.tar",)) -> Dataset:
    shards = ()
    counts = {"train": 8, "validation": 2}
    return Dataset(
        digest="0123456789abcdef0123",
        sources=tuple(SourceInfo(key, "coco", "a", "b", 8, 16) for key in keys),
        classes=tuple(ClassCount(number, name, counts) for number, name in enumerate(classes, start=1)),
        splits={name: SplitPart(8, 16, 0, shards) for name in counts},
        label_map=Artifact("labels", "k", "s", 1),
        split_by="hash",
        warnings=("class x is unused",),
    )


def report(measurement: Measurement | None = None, *, gates: tuple[Gate, ...] = (), model: str = "reef") -> str:
    measurement = measurement or measured()
    pixels = np.full((96, 96, 3), 120, np.uint8)
    boxes, labels = np.array([[0.1, 0.1, 0.5, 0.5]] * 3), np.array([1, IGNORED_LABEL, PADDING_LABEL])
    return render_report(
        ReportData(
            provenance=Provenance("field-day", model, datetime(2026, 11, 29, 9, 30, tzinfo=UTC), "0.1.0"),
            dataset=dataset(measurement.classes),
            history=HISTORY,
            measurement=measurement,
            assessment=assess_model(measurement, gates),
            mapping=MAPPING,
            gates=gates,
            calibration=ScoreCalibration("validation", (0.31,) * len(measurement.classes)),
            reliability=measure_reliability(
                measurement,
                EXAMPLES,
                training=EXAMPLES[:2],
                training_detections=[found_in(example, seed=number) for number, example in enumerate(EXAMPLES[:2])],
                side=192,
            ),
            selection=select_images(EXAMPLES, measurement.detections, thresholds=[0.2] * 45, max_images=3),
            examples=EXAMPLES,
            training=EXAMPLES,
            training_images=[draw_network_input(pixels, boxes, labels)] * 3,
            model_bytes=10**6,
            side=192,
            settings={"seed": "0"},
        )
    )


class Text(HTMLParser):
    """The text of a page in its order, without style, and the anchors that it has and names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.images: list[str | None] = []
        self._in_style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self._in_style = tag == "style"
        if given.get("id"):
            self.anchors.add(str(given["id"]))
        if tag == "a":
            self.links.append(str(given["href"]))
        if tag == "img":
            self.images.append(given.get("alt"))

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if not self._in_style and data.strip():
            self.lines.append(" ".join(data.split()))


def test_the_first_lines_say_what_the_model_is_worth_and_where_it_comes_from() -> None:
    text = Text(report())
    title = text.lines.index("field-day")
    assert (
        text.lines[title + 1]
        == "This model finds all objects, all detections are right, measured on 16 objects only: may be used."
    )
    whole = " ".join(text.lines)
    for fact in (
        "Run field-day",
        "Model reef",
        "Made 2026-11-29 09:30 UTC, by Atoll 0.1.0",
        "field day.tar",
        "2.1 min, 100 steps",
    ):
        assert fact in whole
    assert "AP50 is a score from 0 to 1" in whole


def test_the_contents_lead_to_every_section() -> None:
    text = Text(report())
    inside = [link[1:] for link in text.links if link.startswith("#")]
    assert set(inside) <= text.anchors
    assert {"gates", "classes", "images", "training-images", "training", "dataset", "edgetpu", "settings"} <= set(
        inside
    )
    assert [link for link in text.links if not link.startswith("#")] == ["model.tar.gz", "unoptimized.tflite"]


def test_a_failed_gate_says_that_nothing_is_published_and_names_no_bundle() -> None:
    text = Text(report(gates=(Gate("minAP50", 0.99, 0.98765, passed=False),)))
    whole = " ".join(text.lines)
    assert "Nothing is published : minAP50: measured 0.9877, must be at least 0.99" in whole
    assert [link for link in text.links if not link.startswith("#")] == ["unoptimized.tflite"]
    assert "atoll releases" not in whole
    assert "atoll releases shows this run's release once it is published" in " ".join(Text(report()).lines)


def test_without_a_gate_the_page_says_how_to_set_one() -> None:
    assert 'quality: { minAP50: "0.2" }' in " ".join(Text(report()).lines)


def test_every_image_says_what_it_shows() -> None:
    images = Text(report()).images
    assert images
    assert all(images)


@pytest.mark.parametrize(
    ("float_ap50", "int8_ap50", "value", "label", "kind"),
    [
        (0.90, 0.89, "−1.0", "lost", ""),
        (0.90, 0.85, "−5.0", "lost", "bad"),
        (0.90, 0.91, "+1.0", "gained", ""),
        (0.90, 0.9003, "0.0", "lost", ""),
    ],
)
def test_a_loss_of_ap50_never_reads_as_a_gain(
    float_ap50: float, int8_ap50: float, value: str, label: str, kind: str
) -> None:
    both = measured()
    drop = describe_drop(
        replace(
            both,
            float_metrics=replace(both.float_metrics, ap50=float_ap50),
            int8_metrics=replace(both.int8_metrics, ap50=int8_ap50),
        )
    )
    assert (drop.value, drop.kind) == (value, kind)
    assert label in drop.label
    assert "good" not in drop.kind


def test_a_long_name_keeps_both_ends_and_is_whole_in_its_tooltip() -> None:
    short = shorten_name(EXAMPLES[0].name)
    assert len(short) == MAX_NAME
    assert short.startswith("Match 12/camera")
    assert short.endswith("of_the_day.jpg")
    assert shorten_name("a.jpg") == "a.jpg"
    assert f'title="{EXAMPLES[0].name}"' in report()


def test_of_many_archives_the_first_are_named() -> None:
    assert (
        source_names(dataset(keys=("a/1.tar", "2.zip", "b/3.tar", "4.tar", "5.tar")))
        == "1.tar, 2.zip, 3.tar and 2 more"
    )
    assert source_names(dataset(keys=("datasets/local/season/",))) == "season"


def test_colours_of_classes_differ() -> None:
    colors = [class_color(index) for index in range(1000)]
    assert len(set(colors)) == 1000
    assert colors[: len(PALETTE)] == list(PALETTE)
    assert all(re.fullmatch(r"#[0-9a-f]{6}", color) for color in colors)
    assert class_rgb(0) == (0x00, 0x72, 0xB2)


def test_a_class_has_one_colour_in_every_chart() -> None:
    measurement = measured()
    charts = [*evaluation_charts(measurement), box_size_chart(EXAMPLES, CLASSES, side=192)]
    for chart in charts:
        for index, name in enumerate(CLASSES):
            assert f'<i style="background:{class_color(index)}"></i>{name}' in chart
    assert [bar.color for bar in label_counts(dataset())] == [class_color(0), class_color(1)]


def test_a_line_tells_its_values() -> None:
    f1 = evaluation_charts(measured())[0]
    assert re.search(r"<title>square: 1 at confidence threshold 0\.\d+</title>", f1)


def test_figures_over_thresholds_are_those_of_the_detections_kept() -> None:
    measurement = measured()
    _, precision, recall, _ = evaluation_charts(measurement)
    # A wrong detection of score .3 in each image: below it half of the squares' detections are right.
    assert "<title>square: 0.5 at confidence threshold 0</title>" in precision
    assert "<title>square: 1 at confidence threshold 0</title>" in recall


def test_charts_show_the_classes_with_the_most_objects() -> None:
    curve = measured().curves[0]
    curves = [replace(curve, objects=100 - number) for number in range(40)]
    curves[0] = replace(curves[0], recall=(), precision=(), scores=())
    assert drawn_classes(curves) == list(range(1, MAX_CLASSES + 1))


def test_box_sizes_are_in_percent_of_the_image() -> None:
    (box, *_), label = EXAMPLES[0].boxes, CLASSES[0]
    chart = box_size_chart(EXAMPLES[:1], CLASSES, side=192)
    width, height = 100 * (box[3] - box[1]), 100 * (box[2] - box[0])
    assert f"<title>{label}: {width:.0f} × {height:.0f} %</title>" in chart


def test_what_the_compiler_says_is_explained() -> None:
    whole = " ".join(Text(report()).lines)
    assert "A few operations always stay on the CPU, and that is no mistake" in whole
    assert EXPLANATIONS[UNSUPPORTED_TYPE] in whole


@pytest.fixture
def many_classes(tmp_path: Path) -> Path:
    """A report with forty classes, two of which occur, with names as long as they may be."""
    names = (f"{LONG[:-2]}_0", LONG, *(f"class {number}" for number in range(38)))
    path = tmp_path / "report.html"
    path.write_text(report(measured(names), gates=(Gate("minAP50", 0.2, 1.0, passed=True),)), encoding="utf-8")
    return path


@pytest.mark.timeout(300)
@pytest.mark.skipif(chromium() is None, reason="NOT RUN: no Chromium here: apt-get install chromium")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_fits_its_window_and_an_image_can_be_enlarged(many_classes: Path, width: int, dark: bool) -> None:
    with Browser(width, 900, dark=dark) as browser:
        browser.open(many_classes.as_uri())
        assert overflow(browser) == 0
        small = browser.run("document.querySelector('.pair img').getBoundingClientRect().width")
        browser.click(".pair .zoom")
        assert browser.run("document.querySelector('.pair img').getBoundingClientRect().width") == width > small
        assert overflow(browser) == 0
        browser.click(".pair .zoom")
        assert browser.run("document.querySelector('.pair img').getBoundingClientRect().width") == small
        # With the keyboard, too.
        browser.run("document.querySelector('.pair input').focus()")
        browser.press(" ", code=32, text=" ")
        assert browser.run("document.querySelector('.pair input').checked")
        assert browser.complaints == []


@pytest.mark.timeout(300)
@pytest.mark.skipif(chromium() is None, reason="NOT RUN: no Chromium here: apt-get install chromium")
def test_images_for_the_docs_are_made_of_a_report(many_classes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    write_images(many_classes, folder)
    assert {path.name for path in folder.iterdir()} == set(VIEWS)
    assert all(0 < path.stat().st_size < MAX_BYTES for path in folder.iterdir())
