"""Labelled pictures of red and blue squares that fill the cells of the colour detector, which finds them all."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from support.archives import annotation, meta, rectangle, tar_bytes
from support.edge_model import CELLS

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}
CELL = 16
SIZE = (CELLS * CELL, CELLS * CELL)

# A square: label, row and column of its cell.
Square = tuple[str, int, int]


def coloured_png(squares: Sequence[Square]) -> bytes:
    pixels = np.full((*SIZE, 3), 110, np.uint8)
    for label, row, column in squares:
        pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = COLOURS[label]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def coloured_archive(parts: Mapping[str, Sequence[Sequence[Square]]]) -> bytes:
    """A Supervisely tar with a dataset for each part; the split goes by their names (train, val, test)."""
    files = {"squares/meta.json": meta(*COLOURS)}
    for part, pictures in parts.items():
        for number, squares in enumerate(pictures):
            name = f"{part}{number:03d}.png"
            boxes = [
                rectangle(label, column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL)
                for label, row, column in squares
            ]
            files[f"squares/{part}/img/{name}"] = coloured_png(squares)
            files[f"squares/{part}/ann/{name}.json"] = annotation(boxes, size=SIZE)
    return tar_bytes(files)


def write_archive(path: Path, parts: Mapping[str, Sequence[Sequence[Square]]]) -> Path:
    path.write_bytes(coloured_archive(parts))
    return path


def squares(first: int, count: int) -> list[list[Square]]:
    """Pictures with one red and one blue square each, every one at another place."""
    cells = CELLS * CELLS // 2
    return [
        [("red", n % cells // CELLS, n % CELLS), ("blue", 4 + n % cells // CELLS, (n + 3) % CELLS)]
        for n in range(first, first + count)
    ]
