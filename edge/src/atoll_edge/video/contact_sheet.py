"""The contact sheet: one JPEG with the frames of which the model was least certain, from different moments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_edge.camera.source import BgrImage
from atoll_edge.robot.detection import Observation

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

MAX_KEPT = 96
# The shortest time between two chosen frames, in seconds, where the videos are long enough.
MIN_GAP_SECONDS = 1.0
# The layout in pixels, the JPEG quality, and the colours.
CELL_WIDTH = 400
CAPTION = 46
GAP = 12
COLUMNS = 3
TITLE = 44
QUALITY = 88
PAPER, INK, SOFT = (246, 247, 249), (22, 32, 43), (91, 104, 118)
SEEN, UNCERTAIN = (10, 255, 0), (255, 150, 0)


@dataclass(frozen=True)
class UncertainFrame:
    """A frame with the detection whose score is nearest its threshold, `margin` away from it, and all seen ones.

    `seconds` is the time since the start of the video; `image` is BGR [h, w, 3].
    """

    video: str
    frame: int
    seconds: float
    margin: float
    nearest: Observation
    seen: tuple[Observation, ...]
    image: BgrImage


class UncertainFrames:
    """Keeps the least certain frame of each stretch of each video.

    The stretches grow, so that no more than MAX_KEPT images are kept however long the videos are.
    """

    def __init__(self) -> None:
        self._stretch = MIN_GAP_SECONDS / 2
        self._kept: dict[tuple[str, int], UncertainFrame] = {}

    def wants(self, video: str, seconds: float, margin: float) -> bool:
        """Returns whether `add` would keep a frame with this margin; call it before making the image."""
        kept = self._kept.get((video, int(seconds / self._stretch)))
        return kept is None or margin < kept.margin

    def add(self, frame: UncertainFrame) -> None:
        """Keeps the frame if its stretch has none with a smaller margin."""
        if not self.wants(frame.video, frame.seconds, frame.margin):
            return
        self._kept[frame.video, int(frame.seconds / self._stretch)] = frame
        while len(self._kept) > MAX_KEPT:
            self._stretch *= 2
            before, self._kept = self._kept, {}
            for item in sorted(before.values(), key=lambda item: -item.margin):
                self._kept[item.video, int(item.seconds / self._stretch)] = item

    def select(self, limit: int) -> list[UncertainFrame]:
        """Returns up to `limit` frames in the order of time: the least certain, then others far enough from those."""
        ranked = sorted(self._kept.values(), key=lambda item: (item.margin, item.video, item.frame))
        length = max((item.seconds for item in ranked), default=0.0)
        gap = max(MIN_GAP_SECONDS, length / limit)
        selected: list[UncertainFrame] = []
        while len(selected) < min(limit, len(ranked)) and gap > MIN_GAP_SECONDS / 8:
            for item in ranked:
                if len(selected) < limit and all(_seconds_between(item, other) >= gap for other in selected):
                    selected.append(item)
            gap /= 2
        return sorted(selected, key=lambda item: (item.video, item.frame))


def _seconds_between(one: UncertainFrame, other: UncertainFrame) -> float:
    return abs(one.seconds - other.seconds) if one.video == other.video else float("inf")


def thumbnail(image: BgrImage) -> BgrImage:
    """Scales an image [h, w, 3] to the width of a cell."""
    import cv2

    height, width = image.shape[:2]
    size = (CELL_WIDTH, max(1, round(height * CELL_WIDTH / width)))
    smaller: BgrImage = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return smaller


def write_contact_sheet(path: Path, frames: Sequence[UncertainFrame], title: str) -> None:
    """Writes the frames into a JPEG, in rows, each with its uncertain detection drawn in orange and named below."""
    from PIL import Image, ImageDraw

    height = max(frame.image.shape[0] for frame in frames)
    columns = min(COLUMNS, len(frames))
    rows = math.ceil(len(frames) / columns)
    size = (GAP + columns * (CELL_WIDTH + GAP), TITLE + rows * (height + CAPTION + GAP))
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, 12), title, INK, font=_font(18))
    for number, frame in enumerate(frames):
        left = GAP + number % columns * (CELL_WIDTH + GAP)
        top = TITLE + number // columns * (height + CAPTION + GAP)
        canvas.paste(_drawn(frame), (left, top))
        _draw_caption(draw, frame, (left, top + height + 3))
    canvas.save(path, "JPEG", quality=QUALITY, subsampling=0)


def _drawn(frame: UncertainFrame) -> "Image":
    from PIL import Image, ImageDraw

    image = Image.fromarray(frame.image[..., ::-1])
    draw = ImageDraw.Draw(image)
    for item in frame.seen:
        if item != frame.nearest:
            draw.rectangle(_corners(item, image), outline=SEEN, width=1)
    draw.rectangle(_corners(frame.nearest, image), outline=UNCERTAIN, width=3)
    return image


def _draw_caption(draw: "ImageDraw", frame: UncertainFrame, at: tuple[int, int]) -> None:
    minutes, seconds = divmod(frame.seconds, 60)
    what = f"{frame.nearest.label} {frame.nearest.score:.0%}"
    where = f"{frame.video}  {int(minutes)}:{seconds:04.1f}  frame {frame.frame}"
    draw.text(at, _shortened(draw, what, 15), INK, font=_font(15))
    draw.text((at[0], at[1] + 20), _shortened(draw, where, 12), SOFT, font=_font(12))


def _shortened(draw: "ImageDraw", text: str, size: int) -> str:
    """Cuts `text` where it would run into the next column."""
    font = _font(size)
    if draw.textlength(text, font=font) <= CELL_WIDTH:
        return text
    while text and draw.textlength(text + "…", font=font) > CELL_WIDTH:
        text = text[:-1]
    return text + "…"


def _corners(item: Observation, image: "Image") -> tuple[int, int, int, int]:
    right, bottom = image.width - 1, image.height - 1
    left_top = (round(item.xmin * right), round(item.ymin * bottom))
    return (*left_top, round(item.xmax * right), round(item.ymax * bottom))


def _font(size: int) -> "FreeTypeFont":
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
