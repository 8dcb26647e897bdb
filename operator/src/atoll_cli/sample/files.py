"""Makes the sample's files: the stages' renderer draws pictures and frames, and the frames become films here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from atoll_cli.console import count_progress
from atoll_cli.tool import run_tool
from atoll_cli.video.writer import DurableFile, VideoWriter
from atoll_contract.document import Document, from_dict
from atoll_contract.errors import SpecError
from atoll_contract.tool_reports import SampleArchive, SampleFiles
from atoll_contract.video import load_av

MODULE = "atoll_stages.sample"
ARCHIVES, VIDEOS = ("field.tar", "harvest.tar"), ("camera.mp4", "match.mp4")
VIDEO_FRAMES = 160


class SampleVideo(Document, frozen=True):
    file: str
    frames: int
    seconds: float


class FieldSample(Document, frozen=True):
    """The files that were made, all in one folder."""

    archives: tuple[SampleArchive, ...]
    videos: tuple[SampleVideo, ...]

    def files(self) -> list[str]:
        return [*(item.file for item in self.archives), *(item.file for item in self.videos)]


def make_field(folder: Path, *, images: int, size: tuple[int, int], seed: int) -> FieldSample:
    """Draw the sample into the folder. A file is there once it is whole.

    Raises:
        SpecError: one of the files is there already, or a package is missing.
        AtollError: the renderer failed.
        OSError: the folder cannot be written.
    """
    taken = [name for name in (*ARCHIVES, *VIDEOS) if (folder / name).exists()]
    if taken:
        raise SpecError(f"{folder / taken[0]} exists already and is not overwritten; name another folder with --to DIR")
    load_av()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=folder) as name:
        work = Path(name)
        document = run_tool(MODULE, _arguments(work, images, size, seed), title="drawing pictures")
        drawn = from_dict(SampleFiles, document)
        sample = FieldSample(drawn.archives, tuple(_encode_video(work, video, drawn.rate) for video in drawn.videos))
        for file in sample.files():
            (work / file).rename(folder / file)
    return sample


def _arguments(work: Path, images: int, size: tuple[int, int], seed: int) -> Sequence[str]:
    numbers = {"--pictures": images, "--seed": seed, "--video-frames": VIDEO_FRAMES}
    return [
        "field",
        f"--to={work}",
        *(f"{option}={number}" for option, number in numbers.items()),
        "--size",
        *map(str, size),
    ]


def _encode_video(work: Path, name: str, rate: int) -> SampleVideo:
    """Encode the frames in the folder `name` as `name`.mp4."""
    from PIL import Image

    av = load_av()
    frames = sorted((work / name).glob("*.jpg"))
    target = work / f"{name}.mp4"
    with count_progress(f"frames of {target.name}", len(frames)) as advance, ExitStack() as stack:
        file = stack.enter_context(DurableFile(target))
        writer: VideoWriter | None = None
        for number, path in enumerate(frames):
            with Image.open(path) as image:
                if writer is None:
                    writer = VideoWriter(file, width=image.width, height=image.height, rate=rate, size_limit=None)
                    stack.enter_context(writer)
                writer.add(av.VideoFrame.from_image(image), number / rate)
            advance()
    return SampleVideo(target.name, len(frames), len(frames) / rate)
