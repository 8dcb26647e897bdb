"""The report of a training: one HTML file that needs no network, made from `templates/report.html.j2`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from atoll_contract.dataset import Dataset
from atoll_contract.release import BUNDLE_NAME, INT8_NAME
from atoll_contract.text import table_cell
from atoll_stages.export.colors import class_color
from atoll_stages.export.dataset_charts import box_size_chart, label_counts
from atoll_stages.export.drawing import draw_boxes, draw_labels
from atoll_stages.export.edgetpu_mapping import EXPLANATIONS, MAPPED, MappingReport
from atoll_stages.export.evaluation import Gate, Measurement
from atoll_stages.export.evaluation_charts import evaluation_charts, training_charts
from atoll_stages.export.model_assessment import ModelAssessment
from atoll_stages.export.reliability import Reliability
from atoll_stages.export.sample_images import Assessment, Selection
from atoll_stages.export.score_calibration import ScoreCalibration
from atoll_stages.train.dataset import Example
from atoll_stages.train.history import History

MAX_PROBLEMS = 20
MAX_SOURCES = 3
# Points of AP50 lost to int8 from which the page shows the loss as bad, and below which it is none.
HIGH_DROP, NO_DROP = 1.5, 0.05
# Characters of a file's name; a longer one is shortened in its middle, as its ends tell files apart.
MAX_NAME = 34


@dataclass(frozen=True)
class Provenance:
    """Where a report comes from. `model` is what the run publishes releases of; empty where that is not known."""

    run: str
    model: str
    created: datetime
    version: str


@dataclass(frozen=True)
class ReportData:
    """What the page shows. `training_images` are addresses of images of the training part, as the network sees them."""

    provenance: Provenance
    dataset: Dataset
    history: History
    measurement: Measurement
    assessment: ModelAssessment
    mapping: MappingReport
    gates: Sequence[Gate]
    calibration: ScoreCalibration
    reliability: Reliability
    selection: Selection
    examples: Sequence[Example]
    training: Sequence[Example]
    training_images: Sequence[str]
    model_bytes: int
    side: int
    settings: Mapping[str, object]


def render_report(data: ReportData) -> str:
    """Returns the whole page."""
    classes = data.measurement.classes

    def draw(assessment: Assessment) -> str:
        return draw_boxes(data.examples[assessment.index], assessment, classes)

    def draw_truth(assessment: Assessment) -> str:
        return draw_labels(data.examples[assessment.index])

    return (
        template_environment("atoll_stages.export")
        .get_template("report.html.j2")
        .render(
            title=data.provenance.run,
            data=data,
            source_names=source_names(data.dataset),
            drop=describe_drop(data.measurement),
            overfitted=data.reliability.is_overfitted,
            bundle=BUNDLE_NAME,
            model_file=INT8_NAME,
            draw=draw,
            draw_truth=draw_truth,
            class_colors=[(class_color(index), name) for index, name in enumerate(classes)],
            mapped_status=MAPPED,
            explanations=EXPLANATIONS,
            evaluation_charts=evaluation_charts(data.measurement),
            training_charts=training_charts(data.history),
            label_counts=label_counts(data.dataset),
            box_size_chart=box_size_chart(data.training, classes, side=data.side),
            splits={name: part for name, part in data.dataset.splits.items() if part.pictures},
            problems=list(islice(data.dataset.problem_counts.items(), MAX_PROBLEMS)),
        )
    )


def template_environment(*packages: str) -> Environment:
    """Returns the environment with the templates of some packages; the first that has one wins."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["ap"] = format_ap
    environment.filters["short"] = shorten_name
    return environment


def format_ap(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def shorten_name(name: str) -> str:
    """Returns a name of at most MAX_NAME characters: its beginning and its end."""
    clean = table_cell(name)
    if len(clean) <= MAX_NAME:
        return clean
    end = MAX_NAME // 2
    return f"{clean[: MAX_NAME - end - 1]}…{clean[-end:]}"


def source_names(dataset: Dataset) -> str:
    """Returns the names of the archives that the data comes from."""
    names = [source.key.rstrip("/").rpartition("/")[2] for source in dataset.sources]
    more = f" and {len(names) - MAX_SOURCES} more" if len(names) > MAX_SOURCES else ""
    return ", ".join(shorten_name(name) for name in names[:MAX_SOURCES]) + more


@dataclass(frozen=True)
class Drop:
    """The AP50 that int8 costs, as a card of the page: its value, its label, and the class of its style."""

    value: str
    label: str
    kind: str = ""


def describe_drop(measurement: Measurement) -> Drop:
    """Says what int8 costs in points of AP50, of 100. A loss is never shown as something good."""
    drop = 100.0 * (measurement.float_metrics.ap50 - measurement.int8_metrics.ap50)
    if drop >= NO_DROP:
        return Drop(f"−{drop:.1f}", "points of AP50 are lost to int8, of 100", "bad" if drop > HIGH_DROP else "")
    if drop <= -NO_DROP:
        return Drop(f"+{-drop:.1f}", "points of AP50 are gained with int8, of 100")
    return Drop("0.0", "points of AP50 are lost to int8, of 100")
