"""Videos that tests make and read: pictures that carry their own number, and passages of known kinds."""

import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

BITS = 12
WIDTH, HEIGHT = 192, 96


def numbered(number: int, *, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """A picture whose columns show `number` in binary, dark and light, so that compression does not harm it."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat([220 if bit else 30 for bit in bits], width // BITS).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (height, row.size, 3)).copy()


def number_in(picture: Picture) -> int:
    """The number that `numbered` drew."""
    columns = picture.mean(axis=(0, 2)).reshape(BITS, -1).mean(axis=1)
    return sum(1 << bit for bit, level in enumerate(columns) if level > 125)


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    *,
    rate: int = 10,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
) -> Path:
    """A video of `pictures`; the container is that of the path's suffix. `times` are in frames, where uneven."""
    with av.open(str(path), "w") as container:
        stream: av.VideoStream | None = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = cast(av.VideoStream, container.add_stream(codec, rate=rate))
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                if codec == "libx264":
                    stream.options = {"crf": "18", "preset": "ultrafast"}
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times[number] if times else number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def turn(path: Path, *, height: int) -> None:
    """Write into an mp4 of this height that the film is shown turned a quarter to the right, as telephones do."""
    data = bytearray(path.read_bytes())
    # ISO/IEC 14496-12, 8.3.2: 40 bytes after the type of a `tkhd` box of version 0 comes the matrix a b u c d v x y w.
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    struct.pack_into(">9i", data, at, 0, one, 0, -one, 0, 0, height << 16, 0, 1 << 30)
    path.write_bytes(bytes(data))


def read_video(path: Path) -> list[tuple[float, Picture]]:
    """Every frame that plays, with its time; a file that breaks off inside a frame raises as a player would."""
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), pixels(frame)) for frame in container.decode(video=0)]


def pixels(frame: av.VideoFrame) -> Picture:
    """The red, green and blue of a frame."""
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def numbers(path: Path) -> list[int]:
    """The numbers of the frames that play."""
    return [number_in(picture) for _, picture in read_video(path)]


def mjpeg_parts(pictures: Sequence[bytes], *, pace: float) -> Iterator[bytes]:
    """The parts of a multipart MJPEG answer, one every `pace` seconds, as a network camera sends them."""
    for jpeg in pictures:
        yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"
        time.sleep(pace)
