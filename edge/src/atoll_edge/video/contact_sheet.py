"""The frames of which the model was least certain: a score near the threshold, and not all at the same moment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_edge.robot.detection import Observation

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont


# A score as far from the threshold as this is no doubt any more.
REACH = 0.25
MOST_KEPT = 96
# The least time between two frames that are shown, where the videos are long enough (seconds).
APART = 1.0


@dataclass(frozen=True)
class Doubt:
    """A frame, the detection in it whose score is nearest its threshold, and what counts as seen beside it.

    `distance` is that between the score and the threshold; `picture` is BGR.
    """

    video: str
    frame: int
    seconds: float
    distance: float
    nearest: Observation
    seen: tuple[Observation, ...]
    picture: "NDArray[uint8]"


def nearest_to(thresholds: Sequence[float], candidates: Sequence[Observation]) -> Observation | None:
    """The one whose score is nearest its class's threshold, within REACH."""
    within = [item for item in candidates if distance(thresholds, item) <= REACH]
    return min(within, key=lambda item: distance(thresholds, item), default=None)


def distance(thresholds: Sequence[float], item: Observation) -> float:
    return abs(item.score - thresholds[item.class_id])


class DoubtfulMoments:
    """Of each stretch of each video the frame of most doubt.

    The stretches grow, so that no more than MOST_KEPT pictures are held however long the videos are.
    """

    def __init__(self) -> None:
        self._stretch = APART / 2
        self._kept: dict[tuple[str, int], Doubt] = {}

    def wants(self, video: str, seconds: float, distance: float) -> bool:
        """Whether a frame of this distance would be kept; ask before making its picture."""
        there = self._kept.get((video, int(seconds / self._stretch)))
        return there is None or distance < there.distance

    def add(self, doubt: Doubt) -> None:
        """Keep the frame, if its stretch has none of more doubt."""
        if not self.wants(doubt.video, doubt.seconds, doubt.distance):
            return
        self._kept[doubt.video, int(doubt.seconds / self._stretch)] = doubt
        while len(self._kept) > MOST_KEPT:
            self._stretch *= 2
            held, self._kept = self._kept, {}
            for item in sorted(held.values(), key=lambda item: -item.distance):
                self._kept[item.video, int(item.seconds / self._stretch)] = item

    def chosen(self, most: int) -> list[Doubt]:
        """Up to `most`, in the order of the videos' time: the most doubtful first, then others far enough from them."""
        ranked = sorted(self._kept.values(), key=lambda item: (item.distance, item.video, item.frame))
        length = max((item.seconds for item in ranked), default=0.0)
        gap = max(APART, length / most)
        taken: list[Doubt] = []
        while len(taken) < min(most, len(ranked)) and gap > APART / 8:
            for item in ranked:
                if len(taken) < most and all(_apart(item, other) >= gap for other in taken):
                    taken.append(item)
            gap /= 2
        return sorted(taken, key=lambda item: (item.video, item.frame))


def _apart(one: Doubt, other: Doubt) -> float:
    return abs(one.seconds - other.seconds) if one.video == other.video else float("inf")


CELL_WIDTH = 400
CAPTION = 46
GAP = 12
COLUMNS = 3
TITLE = 44
QUALITY = 88
PAPER, INK, SOFT = (246, 247, 249), (22, 32, 43), (91, 104, 118)
SEEN, DOUBTFUL = (10, 255, 0), (255, 150, 0)


def thumbnail(picture: "NDArray[uint8]") -> "NDArray[uint8]":
    """The picture at the sheet's width."""
    import cv2

    height, width = picture.shape[:2]
    size = (CELL_WIDTH, max(1, round(height * CELL_WIDTH / width)))
    smaller: NDArray[uint8] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return smaller


def write_sheet(path: Path, doubts: Sequence[Doubt], title: str) -> None:
    """Write the frames into a JPEG, in rows; each with its doubtful detection drawn in orange and named below."""
    from PIL import Image, ImageDraw

    height = max(doubt.picture.shape[0] for doubt in doubts)
    columns = min(COLUMNS, len(doubts))
    rows = math.ceil(len(doubts) / columns)
    size = (GAP + columns * (CELL_WIDTH + GAP), TITLE + rows * (height + CAPTION + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 12), title, INK, font=_font(18))
    for place, doubt in enumerate(doubts):
        left = GAP + place % columns * (CELL_WIDTH + GAP)
        top = TITLE + place // columns * (height + CAPTION + GAP)
        sheet.paste(_drawn(doubt), (left, top))
        _caption(draw, doubt, (left, top + height + 3))
    sheet.save(path, "JPEG", quality=QUALITY, subsampling=0)


def _drawn(doubt: Doubt) -> "Image":
    from PIL import Image, ImageDraw

    picture = Image.fromarray(doubt.picture[..., ::-1])
    draw = ImageDraw.Draw(picture)
    for item in doubt.seen:
        if item != doubt.nearest:
            draw.rectangle(_corners(item, picture), outline=SEEN, width=1)
    draw.rectangle(_corners(doubt.nearest, picture), outline=DOUBTFUL, width=3)
    return picture


def _caption(draw: "ImageDraw", doubt: Doubt, at: tuple[int, int]) -> None:
    minutes, seconds = divmod(doubt.seconds, 60)
    what = f"{doubt.nearest.label} {doubt.nearest.score:.0%}"
    where = f"{doubt.video}  {int(minutes)}:{seconds:04.1f}  frame {doubt.frame}"
    draw.text(at, _fitting(draw, what, 15), INK, font=_font(15))
    draw.text((at[0], at[1] + 20), _fitting(draw, where, 12), SOFT, font=_font(12))


def _fitting(draw: "ImageDraw", text: str, size: int) -> str:
    """`text`, cut where it would run into the next column."""
    font = _font(size)
    if draw.textlength(text, font=font) <= CELL_WIDTH:
        return text
    while text and draw.textlength(text + "…", font=font) > CELL_WIDTH:
        text = text[:-1]
    return text + "…"


def _corners(item: Observation, picture: "Image") -> tuple[int, int, int, int]:
    right, bottom = picture.width - 1, picture.height - 1
    return (
        round(item.xmin * right),
        round(item.ymin * bottom),
        round(item.xmax * right),
        round(item.ymax * bottom),
    )


def _font(size: int) -> "FreeTypeFont":
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
