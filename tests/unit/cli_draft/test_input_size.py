"""The input of a drafted detector: as large as the boxes need, and what that costs."""

import pytest

from atoll_cli.draft.draft import draft_run
from atoll_cli.draft.input_size import choose_input
from atoll_cli.draft.settings import InitialWeights, Settings
from atoll_contract.tool_reports import LintClass, LintReport, Timing
from atoll_contract.train_spec import Architecture, InitFrom
from support.draft_inputs import lint_report, target

KEY = "datasets/local/reefscape.tar"
CLASSES = (LintClass("coral", {"train": 60, "validation": 20}, tiny=0), LintClass("algae", {"train": 20}, tiny=0))


def of_shares(in_320: int, in_416: int, in_512: int, in_640: int) -> LintReport:
    """A hundred boxes, so many of them below 20 pixels in each input."""
    small = {"192": 100, "300": in_320, "320": in_320, "416": in_416, "512": in_512, "640": in_640}
    return lint_report(classes=CLASSES, small_boxes=small)


@pytest.mark.parametrize(
    ("shares", "chosen"),
    [
        ((0, 0, 0, 0), Architecture.FPNLITE_320),
        ((25, 20, 10, 5), Architecture.FPNLITE_320),
        ((26, 25, 10, 5), Architecture.FPNLITE_416),
        ((56, 40, 25, 10), Architecture.FPNLITE_512),
        ((90, 80, 60, 24), Architecture.FPNLITE_512),
    ],
)
def test_at_most_a_quarter_of_the_boxes_is_small(shares: tuple[int, int, int, int], chosen: Architecture) -> None:
    draft = draft_run(of_shares(*shares), [KEY], target())
    assert draft.settings.architecture is chosen
    assert f"architecture: {chosen} #" in draft.text


def test_a_larger_input_comes_with_its_reason_and_its_price() -> None:
    draft = draft_run(of_shares(56, 40, 21, 10), [KEY], target())
    text = " ".join(draft.text.replace("\n# ", " ").split())
    assert (
        "Input: 512 pixels, as 56% of the boxes are below 20 pixels in an input of 320, 21% in this one; a picture "
        "takes 2.6 times the time, in training and on the device's CPU; an Edge TPU is predicted to run the same"
    ) in text
    assert "640" not in draft.input_reason


def test_where_half_of_the_boxes_stay_small_the_largest_input_is_named() -> None:
    reason = choose_input(of_shares(90, 80, 60, 24)).reason
    assert reason.endswith("640 finds more still, for 1.6 times the time of 512")


def test_the_usual_input_needs_no_reason() -> None:
    draft = draft_run(of_shares(10, 5, 2, 0), [KEY], target())
    assert draft.input_reason == ""
    assert "Input:" not in draft.text


def test_a_report_of_an_older_tool_gives_the_usual_input() -> None:
    assert choose_input(lint_report()).architecture is Architecture.FPNLITE_320


def test_a_release_is_continued_with_its_own_input() -> None:
    weights = InitialWeights(InitFrom.RELEASE, "note-v1", width=0.5, architecture=Architecture.FPNLITE_320)
    draft = draft_run(of_shares(56, 40, 21, 10), [KEY], target(initial_weights=weights))
    assert draft.settings.architecture is Architecture.FPNLITE_320
    assert draft.input_reason == ""


def test_the_time_is_that_of_the_chosen_input() -> None:
    timed = []

    def timing(on_cpu: Settings, on_gpu: Settings) -> Timing:
        timed.append((on_cpu.architecture, on_gpu.architecture))
        return Timing("cpu", 2, on_cpu.width, on_cpu.batch, seconds_per_step=0.5, other_seconds=60.0)

    draft_run(of_shares(56, 40, 21, 10), [KEY], target(), benchmark=timing)
    assert timed == [(Architecture.FPNLITE_512, Architecture.FPNLITE_512)]
