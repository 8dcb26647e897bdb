"""Files that people take for videos: cut off, empty, sound alone, pictures by another name, and other things."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from support.videos import numbered, write_video


def cut_off(path: Path) -> Path:
    """An mp4 whose end, with the index, was never written."""
    data = write_video(path, (numbered(n) for n in range(20))).read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    return path


def cut_in_index(path: Path) -> Path:
    """An mp4 that ends within its index."""
    data = write_video(path, (numbered(n) for n in range(20))).read_bytes()
    path.write_bytes(data[: data.index(b"moov") + 40])
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def zeros(path: Path) -> Path:
    path.write_bytes(b"\0" * 50_000)
    return path


def text(path: Path) -> Path:
    path.write_text("<html>you have to log in to download this</html>\n" * 100)
    return path


def sound(path: Path) -> Path:
    """A second of silence, in the container that the name says."""
    with av.open(str(path), "w", format="mp4" if path.suffix == ".mp4" else None) as container:
        stream = container.add_stream("pcm_s16le" if path.suffix == ".wav" else "aac", rate=8000)
        stream.layout = "mono"
        layout = "s16" if path.suffix == ".wav" else "fltp"
        dtype = np.int16 if path.suffix == ".wav" else np.float32
        for number in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype), format=layout, layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, number * 1024, Fraction(1, 8000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def renamed_sound(path: Path) -> Path:
    return sound(path.with_suffix(".wav")).rename(path)


def mp3(path: Path) -> Path:
    path.write_bytes(b"\xff\xfb\x90\x64" + b"\0" * 413)
    return path


def cut_matroska(path: Path) -> Path:
    """A Matroska file that ends within its header."""
    data = write_video(path.with_suffix(".mkv"), (numbered(n) for n in range(20))).read_bytes()
    path.write_bytes(data[:300])
    return path


def image_as(kind: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        Image.fromarray(numbered(5)).save(path, kind)
        return path

    return write


# What each is called, how it is made, and what is said of it.
BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cut off": (cut_off, "the recording was cut off: the file is incomplete, its index (moov)"),
    "cut in its index": (cut_in_index, "the recording was cut off: the file is incomplete, its index (moov)"),
    "empty": (empty, "the file is empty (0 bytes)"),
    "zeros": (zeros, "it is no video, or a damaged one"),
    "text": (text, "it is no video, or a damaged one; name a video file such as .mp4"),
    "sound alone": (sound, "there is no picture in it, only sound"),
    "a renamed wav": (renamed_sound, "there is no picture in it, only sound"),
    "an mp3": (mp3, "there is no picture in it, only sound"),
    "a Matroska file without its frames": (cut_matroska, "it is no video, or a damaged one"),
    "a JPEG": (image_as("JPEG"), "it is a picture (JPEG) and no video"),
    "a PNG": (image_as("PNG"), "it is a picture (PNG) and no video"),
    "a GIF": (image_as("GIF"), "it is a picture (GIF) and no video"),
    "a BMP": (image_as("BMP"), "it is a picture (BMP) and no video"),
    "a WebP": (image_as("WEBP"), "it is a picture (WebP) and no video"),
}
