"""frc.json as people edit it: what cannot be used is left out and named, and the rest of the file counts."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from atoll_edge import cli
from atoll_edge.cameras import camera_setups, with_frc
from atoll_edge.config import CameraConfig, EdgeConfig
from atoll_edge.frc import MAX_WARNINGS, FrcConfig, FrcError, NtMode, parse_frc, read_frc

FRONT: dict[str, Any] = {"name": "front", "path": "/dev/video0", "width": 320, "height": 240, "fps": 30}
REAR: dict[str, Any] = {"name": "rear", "path": "/dev/video2"}
GOOD: dict[str, Any] = {"team": 190, "ntmode": "server", "cameras": [FRONT, REAR]}


def parsed(**change: object) -> FrcConfig:
    return parse_frc(json.dumps(GOOD | change), name="frc.json")


def names(frc: FrcConfig) -> list[str]:
    return [camera.name for camera in frc.cameras]


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + json.dumps(GOOD).encode(),
        json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD, indent=2).replace("\n", "\r\n").encode(),
    ],
    ids=["UTF-8 with BOM", "UTF-16", "CRLF"],
)
def test_the_files_of_windows_editors_are_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "frc.json"
    path.write_bytes(data)
    frc = read_frc((path,))
    assert frc is not None
    assert (frc.team, frc.nt_mode, names(frc), frc.warnings) == (190, NtMode.SERVER, ["front", "rear"], ())


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"team": 0}, "frc.json: team must be a whole number from 1 to 25599, not 0; it is left out"),
        ({"team": -190}, "team must be a whole number from 1 to 25599, not -190"),
        ({"team": 99999}, "team must be a whole number from 1 to 25599, not 99999"),
        ({"team": "frc190"}, 'team must be a whole number from 1 to 25599, not "frc190"'),
        ({"team": 1.5}, "team must be a whole number from 1 to 25599, not 1.5"),
        ({"team": float("inf")}, "team must be a whole number from 1 to 25599, not Infinity"),
        ({"team": True}, "team must be a whole number from 1 to 25599, not true"),
        ({"team": [190]}, "team must be a whole number from 1 to 25599, not a list"),
    ],
)
def test_a_team_that_cannot_be_used_takes_nothing_else_with_it(change: dict[str, object], warning: str) -> None:
    frc = parsed(**change)
    assert (frc.team, frc.nt_mode, names(frc)) == (None, NtMode.SERVER, ["front", "rear"])
    assert len(frc.warnings) == 1
    assert warning in frc.warnings[0]


@pytest.mark.parametrize(("team", "number"), [("190", 190), (" 0190 ", 190), (190.0, 190), (None, None)])
def test_a_team_is_read_however_it_is_written(team: object, number: int | None) -> None:
    frc = parsed(team=team)
    assert (frc.team, frc.warnings) == (number, ())


@pytest.mark.parametrize("mode", ["both", 3, "", ["server"]])
def test_a_mode_that_is_none_is_taken_as_client(mode: object) -> None:
    frc = parsed(ntmode=mode)
    assert (frc.team, frc.nt_mode, names(frc)) == (190, NtMode.CLIENT, ["front", "rear"])
    assert len(frc.warnings) == 1
    assert "ntmode must be client or server" in frc.warnings[0]


@pytest.mark.parametrize(
    ("camera", "warning"),
    [
        (7, "cameras[0] is left out: it must be an object, {…}, not 7"),
        ({"name": "left"}, 'cameras[0] ("left") is left out: its path must be a device such as /dev/video0'),
        ({"name": "left", "path": "video0"}, 'not "video0"'),
        ({"name": "left", "path": ""}, 'not ""'),
        ({"name": "left", "path": 0}, "not 0"),
        ({"name": "left", "path": {"usb": 1}}, "not an object"),
        ({"name": "left", "path": "/dev/video\ud800"}, "not "),
        ({"name": "left", "path": "x" * 5000}, "x…"),
        (FRONT | {"name": "rear", "path": "/dev/video9"}, "cameras[1] is left out: its name"),
    ],
)
def test_a_camera_that_cannot_be_used_is_left_out_alone(camera: object, warning: str) -> None:
    frc = parsed(cameras=[camera, REAR])
    assert names(frc) == ["rear"]
    assert len(frc.warnings) == 1
    assert warning in frc.warnings[0]
    assert len(frc.warnings[0]) < 250


@pytest.mark.parametrize(
    ("field", "value"), [("width", 0), ("height", "tall"), ("fps", 1000), ("width", 10**9), ("fps", -30)]
)
def test_a_size_that_cannot_be_used_keeps_the_camera(field: str, value: object) -> None:
    frc = parsed(cameras=[FRONT | {field: value}])
    [camera] = frc.cameras
    sizes = {"width": camera.width, "height": camera.height, "fps": camera.fps}
    assert sizes == {"width": 320, "height": 240, "fps": 30} | {field: None}
    assert len(frc.warnings) == 1
    assert f'cameras[0] ("front"): {field} must be a whole number from 1 to' in frc.warnings[0]


def test_cameras_without_a_name_run_by_their_path() -> None:
    frc = parsed(cameras=[{"path": "/dev/video0"}, {"name": "\ud800", "path": "/dev/video2"}])
    assert [camera.path for camera in frc.cameras] == ["/dev/video0", "/dev/video2"]
    assert all("name must be a text of printable characters" in warning for warning in frc.warnings)
    config = with_frc(EdgeConfig(), frc)
    setups = [(setup.name, setup.config.path) for setup in camera_setups(config)]
    assert setups == [("camera", "/dev/video0"), ("camera2", "/dev/video2")]


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/dev/video0", "/dev/video0"),
        ("/dev/v4l/by-id/usb-Microsoft_LifeCam-video-index0", "/dev/v4l/by-id/usb-Microsoft_LifeCam-video-index0"),
        ("/dev/v4l/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.1:1.0-video-index0",) * 2,
        ("http://10.1.90.11/mjpg/video.mjpg", "http://10.1.90.11/mjpg/video.mjpg"),
        (" /dev/video1\n", "/dev/video1"),
    ],
)
def test_every_kind_of_camera_path_is_read(written: object, path: str) -> None:
    frc = parsed(cameras=[{"name": "front", "path": written}])
    assert [camera.path for camera in frc.cameras] == [path]


@pytest.mark.parametrize("key", ["cameras", "switched cameras"])
@pytest.mark.parametrize("value", [{}, "front", 3])
def test_a_list_that_is_none_is_left_out(key: str, value: object) -> None:
    frc = parsed(**{key: value})
    assert (frc.team, frc.switched) == (190, ())
    assert frc.warnings[0].startswith(f"frc.json: {key} must be a list of objects, not ")


def test_unknown_and_missing_fields_are_no_mistakes() -> None:
    assert parsed(hasDisplay=1, camera=5).warnings == ()
    empty = parse_frc("{}", name="frc.json")
    assert (empty.team, empty.nt_mode, empty.cameras, empty.warnings) == (None, NtMode.CLIENT, (), ())


def test_a_key_that_is_there_twice_is_named_and_the_last_counts() -> None:
    frc = parse_frc('{"team": 1, "team": 190}', name="frc.json")
    assert frc.team == 190
    assert frc.warnings == ('frc.json: "team" is there 2 times; the last value counts',)


def test_warnings_have_a_bound() -> None:
    assert len(parsed(cameras=[0] * 1000).warnings) == MAX_WARNINGS


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("[" * 100_000, "is not JSON"),
        ("team = 190", "is not JSON"),
        ("[]", "must hold an object, {…}, not a list"),
    ],
)
def test_a_file_that_is_no_json_object_says_so(text: str, sentence: str) -> None:
    with pytest.raises(FrcError, match=r"^frc\.json ") as caught:
        parse_frc(text, name="frc.json")
    assert sentence in str(caught.value)


def test_the_agent_gets_and_logs_each_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, settings = tmp_path / "frc.json", tmp_path / "config.yaml"
    path.write_text(json.dumps(GOOD | {"team": 0, "cameras": [{"name": "left"}, FRONT]}))
    settings.write_text("")
    monkeypatch.setattr(cli, "read_frc", lambda: read_frc((path,)))
    config, _, warnings = cli.configuration(cli.parser().parse_args(["run", "--config", str(settings)]))
    assert (config.team, config.nt_mode, config.camera.name) == (None, NtMode.SERVER, "front")
    assert config.camera == CameraConfig(name="front", path="/dev/video0", width=320, height=240, fps=30)
    for part in ("team must be a whole number", '("left") is left out'):
        assert any(part in warning for warning in warnings)
        assert part in caplog.text
