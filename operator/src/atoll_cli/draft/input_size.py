"""Chooses the input of a drafted detector by how large the boxes are in it, and says what that costs. Pure."""

from dataclasses import dataclass

from atoll_contract.tool_reports import SMALL_PIXELS, LintReport
from atoll_contract.train_spec import Architecture

# The share of small boxes that an input may have. With robot cameras and an input of 320 recall was .85 from 16 to 32
# pixels, .57 from 8 to 16 and .08 below.
MAX_SMALL_SHARE = 0.25
_INPUTS = (Architecture.FPNLITE_320, Architecture.FPNLITE_416, Architecture.FPNLITE_512)
_LARGEST = Architecture.FPNLITE_640


@dataclass(frozen=True)
class InputChoice:
    """A detector, and why its input has that size; `reason` is empty for the usual one."""

    architecture: Architecture
    reason: str = ""


def choose_input(lint: LintReport) -> InputChoice:
    """The smallest input in which at most a quarter of the boxes is small, but 512 pixels at most: a larger one is
    too slow for most robots."""
    usual = _INPUTS[0]
    chosen = next((item for item in _INPUTS if small_share(lint, item) <= MAX_SMALL_SHARE), _INPUTS[-1])
    if chosen is usual:
        return InputChoice(usual)
    reason = (
        f"{small_share(lint, usual):.0%} of the boxes are below {SMALL_PIXELS} pixels in an input of {usual.side}, "
        f"{small_share(lint, chosen):.0%} in this one; a picture takes {_price(usual, chosen)} times the time, in "
        "training and on the device's CPU; an Edge TPU is predicted to run the same operations"
    )
    if small_share(lint, chosen) > MAX_SMALL_SHARE:
        reason += f"; {_LARGEST.side} finds more still, for {_price(chosen, _LARGEST)} times the time of {chosen.side}"
    return InputChoice(chosen, reason)


def small_share(lint: LintReport, architecture: Architecture) -> float:
    """The share of boxes that are small in the input of a detector; 0 where that was not counted."""
    boxes = sum(count for item in lint.classes for count in item.boxes.values())
    return (lint.small_boxes or {}).get(str(architecture.side), 0) / max(1, boxes)


def _price(small: Architecture, large: Architecture) -> str:
    """How many times the pixels, and so the time, one input has of another."""
    return f"{(large.side / small.side) ** 2:.1f}"
