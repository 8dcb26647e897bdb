"""What `atoll-edge run --video` says of files that are no videos."""

from collections.abc import Callable
from pathlib import Path

import pytest

from atoll_edge.camera.files import ImageSource, SourceError

pytest.importorskip("av", reason="the videos are made with PyAV, which the edge's packages lack")

from support.broken_videos import BROKEN, image_as
from support.videos import numbered, write_video


def opened(path: Path) -> ImageSource:
    return ImageSource(path, fps=1000, now_us=lambda: 0)


@pytest.mark.parametrize(("make", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_video_is_named(tmp_path: Path, make: Callable[[Path], Path], sentence: str) -> None:
    path = make(tmp_path / "match.mp4")
    with pytest.raises(SourceError) as caught:
        opened(path)
    assert str(caught.value).startswith(f"{path}: {sentence}")


def test_a_picture_that_says_that_it_is_one_is_still_shown(tmp_path: Path) -> None:
    source = opened(image_as("PNG")(tmp_path / "scene.png"))
    assert source.grab(5.0) is not None
    source.close()


def test_a_video_is_still_shown(tmp_path: Path) -> None:
    source = opened(write_video(tmp_path / "match.mp4", (numbered(n) for n in range(5))))
    frame = source.grab(5.0)
    assert frame is not None
    source.close()
