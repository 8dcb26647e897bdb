"""The report of a training: one HTML file that needs no network, made from `templates/report.html.j2`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from atoll_contract.dataset import Dataset
from atoll_stages.export.charts import Axes, Series, line_chart
from atoll_stages.export.edgetpu_mapping import MAPPED, MappingReport
from atoll_stages.export.evaluation import Gate, Measurement
from atoll_stages.export.sample_images import Assessment, Selection, draw_boxes
from atoll_stages.train.dataset import Example
from atoll_stages.train.history import History

MAX_PROBLEMS = 20
# Points of AP50 lost to int8 from which the page shows the loss as bad.
HIGH_DROP = 1.5


@dataclass(frozen=True)
class ReportData:
    """What the page shows."""

    run: str
    dataset: Dataset
    history: History
    measurement: Measurement
    mapping: MappingReport
    gates: Sequence[Gate]
    selection: Selection
    examples: Sequence[Example]
    model_bytes: int
    side: int
    settings: Mapping[str, object]


def render_report(data: ReportData) -> str:
    """Returns the whole page."""

    def draw(assessment: Assessment) -> str:
        return draw_boxes(data.examples[assessment.index], assessment, data.measurement.classes)

    return (
        template_environment("atoll_stages.export")
        .get_template("report.html.j2")
        .render(
            title=data.run,
            data=data,
            draw=draw,
            high_drop=HIGH_DROP,
            mapped_status=MAPPED,
            precision_chart=_precision_chart(data.measurement),
            training_charts=_training_charts(data.history),
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
    return environment


def format_ap(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _precision_chart(measurement: Measurement) -> Markup:
    series = [Series(c.name, (0.0, *c.recall), (c.precision[0], *c.precision)) for c in measurement.curves if c.recall]
    return line_chart(Axes("recall", "Precision over recall, IoU .5, int8", (0, 1), (0, 1)), series)


def _training_charts(history: History) -> list[Markup]:
    points = history.points
    steps = [p.step for p in points]
    losses = [
        Series("total", steps, [p.loss for p in points]),
        Series("classification", steps, [p.classification_loss for p in points]),
        Series("box (1 - GIoU)", steps, [p.box_loss for p in points]),
    ]
    evaluated = [(p.step, p.ap50, p.ap) for p in points if p.ap50 is not None and p.ap is not None]
    eval_steps = [step for step, _, _ in evaluated]
    precision = [
        Series("AP50", eval_steps, [ap50 for _, ap50, _ in evaluated], (history.best.step, history.best.ap50)),
        Series("AP", eval_steps, [ap for _, _, ap in evaluated]),
    ]
    learning_rate = [Series("learning rate", steps, [p.learning_rate for p in points])]
    return [
        line_chart(Axes.around("step", "Loss", losses), losses),
        line_chart(Axes("step", "AP on the validation part", (0, max(steps, default=1)), (0, 1)), precision),
        line_chart(Axes.around("step", "Learning rate", learning_rate), learning_rate),
    ]
