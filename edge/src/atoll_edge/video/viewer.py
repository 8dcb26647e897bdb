"""What a viewer of a stream gets: the settings' limits, or less where its URL asks for less."""

from dataclasses import dataclass
from urllib.parse import parse_qs


@dataclass(frozen=True)
class StreamLimits:
    """The most that a viewer gets, whatever it asks for: frames per second, JPEG quality (0…100), and pixels."""

    fps: int = 15
    compression: int = 30
    width: int = 320
    height: int = 240


def limits_of(query: str, limits: StreamLimits) -> StreamLimits:
    """Returns the limits of one viewer, by the names that dashboards use (`fps=5&compression=20&resolution=160x120`). A
    value that is no number counts as not given."""
    requested = {name: values[-1] for name, values in parse_qs(query, max_num_fields=16).items()}
    width, _, height = requested.get("resolution", "").partition("x")
    return StreamLimits(
        fps=_clamped(requested.get("fps"), limits.fps, 1),
        compression=_clamped(requested.get("compression"), limits.compression, 0),
        width=_clamped(width, limits.width, 1),
        height=_clamped(height, limits.height, 1),
    )


def fitted(width: int, height: int, limits: StreamLimits) -> tuple[int, int]:
    """Returns the size at which a frame fits the limits, in its own proportions; never larger than the frame."""
    factor = min(1.0, limits.width / width, limits.height / height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _clamped(text: str | None, highest: int, lowest: int) -> int:
    # Dashboards write -1 for "as you like".
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return highest
    return min(max(int(text), lowest), highest)
