"""The report of a training: one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from atoll_contract.dataset import Dataset
from atoll_stages.export.charts import Axes, Series, drawn, fitting, line_chart
from atoll_stages.export.edgetpu_mapping import MAPPED, MappingReport
from atoll_stages.export.evaluation import Gate, Measurement
from atoll_stages.export.sample_images import Selection, Shown
from atoll_stages.train.dataset import Example
from atoll_stages.train.history import History

MOST_PROBLEMS = 20
FEW_PERCENT = 0.5


@dataclass(frozen=True)
class ReportData:
    """All that the page shows."""

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


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """Cells are HTML already."""
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="box scroll"><table class="{kind}"><thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _card(value: str, words: str, *, kind: str = "") -> str:
    return f'<div class="card"><b class="{kind}">{escape(value)}</b><span>{escape(words)}</span></div>'


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _summary(data: ReportData) -> str:
    exact, quantised = data.measurement.exact, data.measurement.quantised
    drop = 100 * (exact.ap50 - quantised.ap50)
    cards = [
        _card(figure(quantised.ap50), "AP50 of the exported int8 file"),
        _card(figure(quantised.ap), "AP at IoU .50 to .95, int8"),
        _card(figure(exact.ap50), "AP50 of the float model"),
        _card(f"{drop:+.1f}", "points lost to int8", kind="bad" if drop > FEW_PERCENT * 3 else "good"),
        _card(f"{data.model_bytes / 1e6:.2f} MB", f"file size, {data.side}×{data.side} input"),
        _card(f"{data.mapping.percent:.1f}%", "of operations on the Edge TPU (predicted)"),
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _gates(gates: Sequence[Gate]) -> str:
    if not gates:
        return "<p class=soft>The run sets no quality gates.</p>"
    rows = [
        (
            escape(g.name),
            f"{g.limit:g}",
            f"{g.measured:.4g}",
            f'<span class="{"good" if g.passed else "bad"}">{"passed" if g.passed else "failed"}</span>',
        )
        for g in gates
    ]
    return table(("Gate", "Limit", "Measured", "Result"), rows)


def _training(history: History) -> str:
    points = history.points
    steps = [p.step for p in points]
    losses = [
        Series("total", steps, [p.loss for p in points]),
        Series("classification", steps, [p.classification_loss for p in points]),
        Series("box (1 - GIoU)", steps, [p.box_loss for p in points]),
    ]
    measured = [p for p in points if p.ap50 is not None and p.ap is not None]
    precision = [
        Series(
            "AP50",
            [p.step for p in measured],
            [p.ap50 or 0.0 for p in measured],
            (history.best.step, history.best.ap50),
        ),
        Series("AP", [p.step for p in measured], [p.ap or 0.0 for p in measured]),
    ]
    rate = [Series("learning rate", steps, [p.learning_rate for p in points])]
    charts = [
        line_chart(fitting("step", "Loss", losses, y_from=0.0), losses),
        line_chart(Axes("step", "AP on the validation part", (0, max(steps, default=1)), (0, 1)), precision),
        line_chart(fitting("step", "Learning rate", rate, y_from=0.0), rate),
    ]
    words = (
        f"{history.step} of {history.steps} steps from {escape(history.start)}, {history.images_per_second:g} pictures "
        f"per second on {escape(history.accelerator)}, {history.seconds / 60:.1f} min; the weights of step "
        f"{history.best.step} were the best on the validation part and are the ones exported."
    )
    return f'<p>{words}</p><div class="grid2">{"".join(charts)}</div>'


def _classes(measurement: Measurement) -> str:
    rows = [
        (
            escape(c.name),
            str(c.objects),
            figure(measurement.quantised.per_class.get(c.name)),
            figure(measurement.exact.per_class.get(c.name)),
            f"{c.threshold:.3f}",
            figure(c.best_precision),
            figure(c.best_recall),
        )
        for c in measurement.curves
    ]
    head = ("Class", "Objects", "AP50 int8", "AP50 float", "Threshold", "Precision there", "Recall there")
    series = [Series(c.name, (0.0, *c.recall), (c.precision[0], *c.precision)) for c in measurement.curves if c.recall]
    chart = line_chart(Axes("recall", "Precision over recall, IoU .5, int8", (0, 1), (0, 1)), series)
    small = figure(measurement.quantised.ap_small)
    words = (
        "The threshold is the score with the best F1 on these pictures. AP of small objects (below 32×32 pixels of "
        f"input): {small}."
    )
    return f'{table(head, rows)}<p class=soft>{words}</p><div class="grid2">{chart}{_confusion(measurement)}</div>'


def _confusion(measurement: Measurement) -> str:
    counts = measurement.confusion
    names = [*measurement.classes, "nothing"]
    rows = []
    for name, row in zip(names, counts, strict=True):
        total = max(1, int(row.sum()))
        cells = [f'<span class="cell" style="--share:{70 * n / total:.0f}%">{n}</span>' for n in row]
        rows.append((escape(name), *cells))
    rows[-1] = (*rows[-1][:-1], "")
    inner = table(("was \\ seen as", *names), rows, kind="confusion")
    return f"<figure><figcaption>Confusion at the thresholds, IoU .5</figcaption>{inner}</figure>"


def _pictures(title: str, words: str, shown: Sequence[Shown], data: ReportData) -> str:
    if not shown:
        return ""
    items = "".join(
        f'<figure><img alt="" src="{drawn(data.examples[s.index], s, data.measurement.classes)}">'
        f"<figcaption>{escape(data.examples[s.index].name)}<br>{sum(s.right)} right, "
        f"{len(s.found) - sum(s.right)} wrong, {len(s.missed)} missed</figcaption></figure>"
        for s in shown
    )
    return f'<h3>{escape(title)}</h3><p class=soft>{escape(words)}</p><div class="pictures">{items}</div>'


def _gallery(data: ReportData) -> str:
    legend = (
        '<div class="legend"><span><i style="background:#00c86e"></i>right</span>'
        '<span><i style="background:#ff4040"></i>wrong (class and score)</span>'
        '<span><i style="background:#ffc800"></i>missed</span></div>'
    )
    chosen = data.selection
    return legend + "".join(
        (
            _pictures("Most surprising", "The surest mistakes: often a missing label.", chosen.surprising, data),
            _pictures("Worst", "Lowest F1 at the thresholds.", chosen.worst, data),
            _pictures("Best", "Highest F1, busiest first.", chosen.best, data),
        )
    )


def _operations(mapping: MappingReport) -> str:
    rows = [
        (
            escape(r.name),
            f"{r.version}",
            f"{r.count}",
            f'<span class="{"good" if r.status == MAPPED else "soft"}">{escape(r.status)}</span>',
        )
        for r in mapping.rows
    ]
    refused = f" The compiler would refuse {', '.join(mapping.refused)}." if mapping.refused else ""
    fits = "fit into" if mapping.fits_on_chip else "do not fit into"
    words = (
        f"Predicted from the file, not by the compiler: {mapping.mapped} of {mapping.total} operations map; the "
        f"parameters {fits} the chip's memory.{refused}"
    )
    return f"<p>{escape(words)}</p>{table(('Operation', 'Version', 'Count', 'Status'), rows)}"


def _dataset(dataset: Dataset) -> str:
    parts = [
        (escape(name), f"{p.pictures}", f"{p.boxes}", f"{p.negatives}")
        for name, p in dataset.splits.items()
        if p.pictures
    ]
    classes = [
        (escape(c.name), *(f"{c.boxes.get(name, 0)}" for name, p in dataset.splits.items() if p.pictures))
        for c in dataset.classes
    ]
    names = [name for name, p in dataset.splits.items() if p.pictures]
    problems = [(escape(kind), f"{count}") for kind, count in list(dataset.problem_counts.items())[:MOST_PROBLEMS]]
    warnings = "".join(f"<p>{escape(w)}</p>" for w in dataset.warnings)
    found = (
        table(("Problem", "Count"), problems) if problems else "<p class=soft>No problems were found in the data.</p>"
    )
    return (
        f'<div class="grid2">{table(("Part", "Pictures", "Boxes", "Negatives"), parts)}'
        f"{table(('Boxes of class', *names), classes)}</div>{warnings}{found}"
    )


def render(data: ReportData) -> str:
    """The whole page."""
    style = files("atoll_stages.export").joinpath("report.css").read_text(encoding="utf-8")
    part = data.measurement.split
    settings = [(escape(str(k)), escape(str(v))) for k, v in data.settings.items()]
    sections = (
        f"<h2>Quality gates</h2>{_gates(data.gates)}",
        f"<h2>Classes</h2>{_classes(data.measurement)}",
        f"<h2>Pictures</h2>{_gallery(data)}",
        f"<h2>Training</h2>{_training(data.history)}",
        f"<h2>Edge TPU</h2>{_operations(data.mapping)}",
        f"<h2>Dataset</h2>{_dataset(data.dataset)}",
        f"<h2>Settings</h2>{table(('Setting', 'Value'), settings)}",
    )
    title = escape(data.run)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} · Atoll</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head><body><main>'
        f"<h1>{title}</h1><p class=soft>Measured on the {escape(part)} part, {len(data.examples)} pictures, with the "
        f"exported file itself.</p>{_summary(data)}{''.join(sections)}"
        f"<footer>Atoll · dataset {escape(data.dataset.digest[:16])}</footer></main></body></html>\n"
    )
