"""A contact sheet: the least certain frames of some videos as one picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_edge.robot.observation import Observation
from atoll_edge.video.doubt import Doubt

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

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
