"""Names that a run and its model get from their archive."""

import re
from collections.abc import Container, Sequence
from pathlib import PurePosixPath

MAX_NAME = 40
FALLBACK = "detector"
_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


def model_name(archives: Sequence[str]) -> str:
    """A name for the model, from the file names (or keys) of its archives: of a-z, 0-9 and "-", at most 40.

    What the labelling tool adds (`project 12.tar`, `Reefscape_2025`) stays, in small letters.
    """
    stem = PurePosixPath(archives[0].rstrip("/")).name if archives else ""
    suffix = next((item for item in _SUFFIXES if stem.lower().endswith(item)), "")
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower().removesuffix(suffix)).strip("-")
    return plain[:MAX_NAME].rstrip("-") or FALLBACK


def free_name(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, … that no run has: a run cannot be changed, only followed."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        ending = f"-{number}"
        name = wanted[: MAX_NAME - len(ending)].rstrip("-") + ending
    return name
