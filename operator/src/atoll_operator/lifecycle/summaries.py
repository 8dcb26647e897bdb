"""A stage's summary, which is a stranger's: an entry that is missing or of the wrong type counts as none. Pure."""

from collections.abc import Mapping
from typing import Any


def decimal(value: Any, *, digits: int = 4) -> str:
    """A number as the API's decimal string, without trailing zeros; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**6:
        return ""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(data: Mapping[str, Any], name: str) -> int:
    """A count that the API's schema takes; 0 for anything else."""
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object of the summary; an empty one for anything else."""
    value = data.get(name)
    return value if isinstance(value, dict) else {}
