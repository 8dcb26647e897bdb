"""The comparison as one HTML page that needs no network: figures, and pictures of both models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from atoll_stages.compare.comparison import Comparison
from atoll_stages.export import report
from atoll_stages.export.charts import drawn
from atoll_stages.export.sample_images import Shown

# Below this the difference is called none: it is less than what another seed changes.
SLIGHT = 0.005
_PAIRS = """
.pairs { display: grid; margin-top: 8px; grid-template-columns: repeat(auto-fill, minmax(480px, 1fr)); gap: 12px; }
.pairs figure { padding: 0; overflow: hidden; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.pair img { display: block; width: 100%; }
.pairs figcaption { padding: 8px 12px; overflow-wrap: anywhere; }
"""


def render(old: str, new: str, comparisons: Sequence[Comparison], notes: Sequence[str]) -> str:
    """The whole page; `old` and `new` are the models' names, `notes` what the reader should know of the figures."""
    style = files("atoll_stages.export").joinpath("report.css").read_text(encoding="utf-8") + _PAIRS
    title = escape(f"{old} against {new}")
    sections = "".join(_section(old, new, item) for item in comparisons)
    told = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} · Atoll</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head><body><main>'
        f"<h1>{title}</h1><p class=soft>Both int8 files, run on the same pictures.</p>{told}{sections}"
        "<footer>Atoll</footer></main></body></html>\n"
    )


def _section(old: str, new: str, item: Comparison) -> str:
    document = item.document()
    words = f"{document['pictures']} pictures, {document['boxes']} boxes"
    if document["leftOut"]:
        words += f"; {document['leftOut']} more were left out, as one of the models was trained on them"
    return (
        f"<h2>{escape(item.pictures.name)}</h2><p class=soft>{escape(words)}.</p>"
        f"{report.table(('', old, new, 'Difference'), _rows(document))}"
        f"{_pairs('Better', f'Where {new} gains the most.', item.better(), item)}"
        f"{_pairs('Worse', f'Where {new} loses the most.', item.worse(), item)}"
    )


def _rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    old, new, difference = document["old"], document["new"], document["difference"]
    rows: list[tuple[str, ...]] = [
        (words, report.figure(old[key]), report.figure(new[key]), _signed(difference[key]))
        for words, key in (("AP50", "ap50"), ("AP, IoU .50 to .95", "ap"))
    ]
    for name, change in difference["perClass"].items():
        cells = [_of_class(side, name) for side in (old, new)]
        rows.append((f"AP50 of {escape(name)}", *cells, _signed(change)))
    return rows


def _of_class(side: dict[str, Any], name: str) -> str:
    if name in side["unknownClasses"]:
        return '<span class="soft">not known</span>'
    return report.figure(side["perClass"][name])


def _signed(change: float) -> str:
    kind = "soft" if abs(change) < SLIGHT else "good" if change > 0 else "bad"
    return f'<span class="{kind}">{change:+.3f}</span>'


def _pairs(title: str, words: str, indices: Sequence[int], item: Comparison) -> str:
    if not indices:
        return ""
    figures = "".join(_pair(index, item) for index in indices)
    legend = (
        '<div class="legend"><span>old on the left, new on the right</span>'
        '<span><i style="background:#00c86e"></i>right</span>'
        '<span><i style="background:#ff4040"></i>wrong (class and score)</span>'
        '<span><i style="background:#ffc800"></i>missed</span></div>'
    )
    return f'<h3>{escape(title)}</h3><p class=soft>{escape(words)}</p>{legend}<div class="pairs">{figures}</div>'


def _pair(index: int, item: Comparison) -> str:
    example, classes = item.pictures.examples[index], item.pictures.classes
    sides = [side.judged[index] for side in (item.old, item.new)]
    images = "".join(f'<img alt="" src="{drawn(example, shown, classes)}">' for shown in sides)
    told = " · ".join(_counts(shown) for shown in sides)
    return (
        f'<figure><div class="pair">{images}</div>'
        f"<figcaption>{escape(example.name)}<br>{escape(told)}</figcaption></figure>"
    )


def _counts(shown: Shown) -> str:
    right = sum(shown.right)
    return f"{right} right, {len(shown.found) - right} wrong, {len(shown.missed)} missed"
