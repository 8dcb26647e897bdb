"""Sources in place of a camera, the hand-over of the newest frame, and the names of sources."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest

from atoll_edge.camera.files import MAX_SIDE, ImageSource, SourceError, SyntheticSource, draw_scene
from atoll_edge.camera.open import open_source, without_password
from atoll_edge.camera.source import Frame, LatestFrames
from atoll_edge.config import CameraConfig


def now_us() -> int:
    return 42


def write_images(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir()
    for number, (width, height) in enumerate(sizes):
        cv2.imwrite(str(folder / f"{number:03d}.png"), draw_scene(width, height, number))
    return folder


def grab(source: ImageSource | SyntheticSource) -> Frame:
    frame = source.grab(5.0)
    assert frame is not None
    return frame


def test_a_folder_is_looped_in_the_order_of_names(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pictures", (64, 48), (96, 48), (128, 48))
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.jpg").write_bytes(b"no picture either")
    source = ImageSource(folder, fps=1000, now_us=now_us)
    assert [grab(source).width for _ in range(7)] == [64, 96, 128, 64, 96, 128, 64]
    assert (source.mode, source.description) == ((64, 48, 1000), "pictures")
    source.close()


def test_frames_are_numbered_and_stamped(tmp_path: Path) -> None:
    source = ImageSource(write_images(tmp_path / "p", (64, 48)), fps=1000, now_us=now_us)
    assert [(frame.number, frame.captured_us) for frame in (grab(source), grab(source))] == [(1, 42), (2, 42)]


def test_a_video_is_looped(tmp_path: Path) -> None:
    path = tmp_path / "match.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(3):
        writer.write(draw_scene(64, 48, number))
    writer.release()
    source = ImageSource(path, fps=1000, now_us=now_us)
    assert [grab(source).number for _ in range(7)] == list(range(1, 8))
    source.close()


def test_images_larger_than_any_camera_are_scaled_down(tmp_path: Path) -> None:
    source = ImageSource(write_images(tmp_path / "p", (4000, 1000)), fps=1000, now_us=now_us)
    assert max(grab(source).image.shape[:2]) == MAX_SIDE


@pytest.mark.parametrize("name", ["missing", "empty", "text.mp4"])
def test_a_source_without_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(SourceError, match=name.split(".")[0]):
        ImageSource(tmp_path / name, fps=30, now_us=now_us)


def test_the_drawn_scene_moves() -> None:
    source = SyntheticSource(320, 240, fps=1000, now_us=now_us)
    first, second = grab(source), grab(source)
    assert first.image.shape == (240, 320, 3)
    assert (first.image != second.image).any()


def test_the_newest_frame_wins() -> None:
    latest = LatestFrames()
    frames = [Frame(draw_scene(8, 8, number), number, 0) for number in range(3)]
    for frame in frames:
        latest.put(frame)
    assert latest.take(0) == (0, frames[-1])
    latest.release(0)
    assert latest.take(0) is None
    assert latest.dropped() == 2


def test_a_camera_gives_no_other_frame_while_a_detector_has_one() -> None:
    """So that its frames stay in their order where there are several detectors."""
    latest = LatestFrames(2)
    first, second, other = (Frame(draw_scene(8, 8, number), number, 0) for number in range(3))
    latest.put(first, 1)
    assert latest.take(0) == (1, first)
    latest.put(second, 1)
    assert latest.take(0) is None
    latest.put(other, 0)
    assert latest.take(0) == (0, other)
    latest.release(1)
    assert latest.take(0) == (1, second)


def test_a_detector_that_waits_gets_the_frame_of_a_camera_that_is_released() -> None:
    latest = LatestFrames()
    frames = [Frame(draw_scene(8, 8, number), number, 0) for number in range(2)]
    latest.put(frames[0])
    assert latest.take(0) == (0, frames[0])
    latest.put(frames[1])
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(latest.take, 30)
        latest.release(0)
        assert waiting.result(30) == (0, frames[1])


def test_a_path_means_a_source(tmp_path: Path) -> None:
    assert isinstance(open_source(CameraConfig(path="synthetic"), now_us=now_us), SyntheticSource)
    folder = write_images(tmp_path / "p", (64, 48))
    assert isinstance(open_source(CameraConfig(path=os.fspath(folder)), now_us=now_us), ImageSource)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/dev/video0", "/dev/video0"),
        ("http://10.1.90.11/stream.mjpg", "http://10.1.90.11/stream.mjpg"),
        ("http://admin:PW@10.1.90.11:8080/stream.mjpg?fps=30", "http://…@10.1.90.11:8080/stream.mjpg?fps=30"),
        ("https://admin:p@ss@camera.local/", "https://…@camera.local/"),
    ],
)
def test_pages_show_no_password_of_a_camera(path: str, shown: str) -> None:
    assert without_password(path) == shown
