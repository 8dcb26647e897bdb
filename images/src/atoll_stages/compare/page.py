"""The comparison as one HTML page that needs no network, made from `templates/comparison.html.j2`."""

from __future__ import annotations

from collections.abc import Sequence

from atoll_stages.compare.comparison import Comparison
from atoll_stages.export.drawing import draw_boxes
from atoll_stages.export.report import template_environment
from atoll_stages.export.sample_images import Assessment

# A smaller difference of AP is shown as none, because training with another seed changes more.
NEGLIGIBLE_DIFFERENCE = 0.005


def render_comparison(old: str, new: str, comparisons: Sequence[Comparison], notes: Sequence[str]) -> str:
    """Returns the whole page; `old` and `new` are the models' names, `notes` caveats about the figures."""

    def draw(comparison: Comparison, assessment: Assessment) -> str:
        return draw_boxes(comparison.images.examples[assessment.index], assessment, comparison.images.classes)

    return (
        template_environment("atoll_stages.compare", "atoll_stages.export")
        .get_template("comparison.html.j2")
        .render(
            title=f"{old} against {new}",
            old=old,
            new=new,
            comparisons=comparisons,
            notes=notes,
            draw=draw,
            negligible=NEGLIGIBLE_DIFFERENCE,
        )
    )
