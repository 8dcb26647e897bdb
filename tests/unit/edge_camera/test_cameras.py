"""Several cameras of one device: where they come from, their names and ports, and how they share the detector."""

import json
from pathlib import Path

import pytest

from atoll_edge.camera.files import draw_scene
from atoll_edge.camera.source import Frame, LatestFrames
from atoll_edge.cameras import MAX_CAMERAS, camera_setups, frc_settings, missing_camera, with_frc
from atoll_edge.cli import main, parser, with_flags
from atoll_edge.config import CameraConfig, DetectionConfig, EdgeConfig, StreamConfig
from atoll_edge.frc import FrcConfig, parse_frc
from atoll_edge.robot.seed_topics import Compatibility

TWO = EdgeConfig(cameras=(CameraConfig(name="front", path="synthetic"), CameraConfig(name="rear", path="synthetic")))


def frc_of(*cameras: dict[str, object]) -> FrcConfig:
    return parse_frc(json.dumps({"team": 190, "cameras": list(cameras)}), name="frc.json")


def paths(config: EdgeConfig) -> dict[str, str | None]:
    return {setup.name: setup.config.path for setup in camera_setups(config)}


def test_one_camera_is_as_before() -> None:
    [setup] = camera_setups(EdgeConfig())
    assert (setup.name, setup.raw_port, setup.annotated_port, setup.annotated_name) == ("camera", 1181, 1182, "Axon")
    assert setup.compatibility is Compatibility.AXON


def test_each_camera_has_its_ports_and_streams_and_the_first_the_table_ml() -> None:
    front, rear = camera_setups(TWO)
    assert (front.raw_port, front.annotated_port, front.annotated_name) == (1181, 1182, "Axon")
    assert (rear.raw_port, rear.annotated_port, rear.annotated_name) == (1183, 1184, "Axon-rear")
    assert (front.compatibility, rear.compatibility) == (Compatibility.AXON, Compatibility.NONE)


def test_the_settings_choose_ports_and_who_has_the_table_ml() -> None:
    config = EdgeConfig(
        cameras=(CameraConfig(name="front"), CameraConfig(name="rear", raw_port=1190, annotated_port=1189)),
        detection=DetectionConfig(compatibility=Compatibility.DETECTCORAL, compatibility_camera="rear"),
        streams=StreamConfig(raw_port=1185, annotated_port=1186),
    )
    front, rear = camera_setups(config)
    assert (front.raw_port, front.annotated_port, rear.raw_port, rear.annotated_port) == (1185, 1186, 1190, 1189)
    assert (front.compatibility, rear.compatibility) == (Compatibility.NONE, Compatibility.DETECTCORAL)


def test_all_cameras_of_frc_json_run_where_the_settings_name_none() -> None:
    frc = frc_of(
        {"name": "front", "path": "/dev/video0", "fps": 30, "brightness": 50}, {"name": "rear", "path": "/dev/video2"}
    )
    config = with_frc(EdgeConfig(camera=CameraConfig(width=640, horizontal_field_of_view=70.0)), frc)
    assert paths(config) == {"front": "/dev/video0", "rear": "/dev/video2"}
    assert [(setup.config.width, setup.config.fps) for setup in camera_setups(config)] == [(640, 30), (640, None)]
    assert [setup.config.horizontal_field_of_view for setup in camera_setups(config)] == [70.0, 70.0]
    assert frc_settings(config, frc)["front"]["brightness"] == 50


def test_a_list_of_cameras_is_filled_by_their_names() -> None:
    frc = frc_of({"name": "front", "path": "/dev/video0"}, {"name": "rear", "path": "/dev/video2", "fps": 15})
    config = with_frc(EdgeConfig(cameras=(CameraConfig(name="rear", fps=30), CameraConfig(name="side", path="x"))), frc)
    assert paths(config) == {"rear": "/dev/video2", "side": "x"}
    assert camera_setups(config)[0].config.fps == 30
    assert list(frc_settings(config, frc)) == ["rear"]


def test_names_of_frc_json_that_no_topic_can_have_are_changed_and_more_than_five_cameras_left_out() -> None:
    entries = [{"name": name, "path": f"/dev/video{index}"} for index, name in enumerate(("a/b", "Axon", *"cdef"))]
    config = with_frc(EdgeConfig(), frc_of(*entries))
    assert list(paths(config)) == ["a-b", "Axon-camera", "c", "d", "e"]
    assert len(config.cameras) == MAX_CAMERAS


def test_a_video_of_a_flag_replaces_all_cameras() -> None:
    flags = parser().parse_args(["run", "--video", "match.mp4"])
    assert paths(with_flags(TWO, flags)) == {"front": "match.mp4"}


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            EdgeConfig(cameras=(CameraConfig(name="front"),)),
            "cameras[0] (front) has no path, and frc.json has no camera",
        ),
        (
            EdgeConfig(cameras=TWO.cameras, detection=DetectionConfig(compatibility_camera="side")),
            "detection.compatibilityCamera is 'side'; the cameras are front, rear",
        ),
    ],
)
def test_what_is_missing_in_the_end_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: EdgeConfig, text: str
) -> None:
    assert text in (missing_camera(config) or "")
    assert missing_camera(TWO) is None
    path = tmp_path / "config.yaml"
    path.write_text("cameras: [{name: front}]\n")
    assert main(["run", "--config", str(path), "--state-dir", str(tmp_path)]) == 2
    assert "cameras[0] (front) has no path" in capsys.readouterr().err


def test_a_calibration_that_cannot_be_read_ends_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"camera: {{path: synthetic, calibration: {{path: {tmp_path}/none.json}}}}\nstreams: {{enabled: false}}\n"
    )
    assert main(["run", "--config", str(path), "--state-dir", str(tmp_path / "state")]) == 2
    assert f"{tmp_path}/none.json cannot be read: No such file or directory" in capsys.readouterr().err


def frame(number: int) -> Frame:
    return Frame(draw_scene(8, 8, number), number, 0)


def test_cameras_get_the_detector_in_turns_each_with_its_newest_frame() -> None:
    latest = LatestFrames(3)
    order = []
    for number in range(1, 13):
        for camera in (0, 2):  # camera 1 gives nothing
            latest.put(frame(number), camera)
        if number % 2 == 0:
            taken = latest.take(0)
            assert taken is not None
            latest.release(taken[0])
            order.append((taken[0], taken[1].number))
    assert order == [(2, 2), (0, 4), (2, 6), (0, 8), (2, 10), (0, 12)]
    assert latest.dropped(1) == 0
    assert latest.dropped(0) == 12 - 3
