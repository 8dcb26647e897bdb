"""frc.json as WPILibPi writes it, config.yaml, and which of them takes precedence."""

import json
from pathlib import Path

import pytest

from atoll_edge.cameras import unserved, with_frc
from atoll_edge.cli import main, parser, with_flags
from atoll_edge.config import CameraConfig, EdgeConfig
from atoll_edge.config_file import ConfigError, read_config
from atoll_edge.frc import FrcError, NtMode, parse_frc, read_frc

WPILIBPI = {
    "team": 190,
    "ntmode": "client",
    "cameras": [
        {
            "name": "front",
            "path": "/dev/video0",
            "pixel format": "mjpeg",
            "width": 640,
            "height": 480,
            "fps": 30,
            "brightness": 50,
            "white balance": "auto",
            "exposure": "hold",
            "properties": [{"name": "sharpness", "value": 3}],
            "stream": {"properties": [{"name": "compression", "value": 30}]},
        },
        {"name": "rear", "path": "/dev/video2"},
    ],
    "switched cameras": [{"name": "driver", "key": "/Vision/selected"}],
}


def test_every_field_is_read() -> None:
    read = parse_frc(json.dumps(WPILIBPI), name="frc.json")
    assert (read.team, read.nt_mode, read.switched) == (190, NtMode.CLIENT, ("driver",))
    front, rear = read.cameras
    assert (front.name, front.path, front.width, front.height, front.fps) == ("front", "/dev/video0", 640, 480, 30)
    assert front.settings["pixel format"] == "mjpeg"
    assert (rear.width, rear.fps) == (None, None)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_what_is_no_frc_json_is_refused(text: str) -> None:
    with pytest.raises(FrcError, match=r"frc\.json"):
        parse_frc(text, name="frc.json")


def test_both_mount_points_of_the_boot_partition_are_read(tmp_path: Path) -> None:
    old, new = tmp_path / "boot.json", tmp_path / "firmware.json"
    assert read_frc((old, new)) is None
    new.write_text(json.dumps(WPILIBPI))
    found = read_frc((old, new))
    assert found is not None
    assert found.team == 190


def test_settings_win_over_frc_json_and_flags_over_both() -> None:
    frc = parse_frc(json.dumps(WPILIBPI | {"ntmode": "SERVER"}), name="frc.json")
    config = with_frc(EdgeConfig(camera=CameraConfig(name="front", width=320)), frc)
    camera = config.camera
    assert (config.team, camera.path, camera.width, camera.height) == (190, "/dev/video0", 320, 480)
    assert config.nt_mode is NtMode.SERVER
    flags = parser().parse_args(["run", "--team", "254", "--video", "match.mp4", "--backend", "cpu"])
    config = with_frc(with_flags(EdgeConfig(), flags), frc)
    assert (config.team, config.camera.path, config.detection.backend) == (254, "match.mp4", "cpu")
    assert config.camera.name == "front"
    assert with_frc(EdgeConfig(nt_mode=NtMode.CLIENT), frc).nt_mode is NtMode.CLIENT


def test_a_second_camera_is_chosen_by_its_name() -> None:
    frc = parse_frc(json.dumps(WPILIBPI), name="frc.json")
    config = with_frc(EdgeConfig(camera=CameraConfig(name="rear")), frc)
    assert (config.camera.name, config.camera.path) == ("rear", "/dev/video2")
    unknown = with_frc(EdgeConfig(camera=CameraConfig(name="left")), frc)
    assert (unknown.camera.name, unknown.camera.path) == ("left", None)


def test_what_a_device_does_not_serve_is_said() -> None:
    frc = parse_frc(json.dumps(WPILIBPI), name="frc.json")
    many, switched = unserved(with_frc(EdgeConfig(camera=CameraConfig(name="front")), frc), frc)
    assert "has 2 cameras; this device runs front, and not rear" in many
    assert "driver" in switched
    assert unserved(with_frc(EdgeConfig(), frc), frc) == [switched]
    assert unserved(EdgeConfig(), None) == []


def test_a_boot_partition_that_cannot_be_read_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "frc.json"
    path.write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", unreadable)
        with pytest.raises(FrcError, match="cannot be read"):
            read_frc((path,))


def unreadable(*_: object, **__: object) -> str:
    raise PermissionError(13, "Permission denied")


def test_a_whole_config_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "team: 190\n"
        "model:\n  namespace: team-190\n  name: note\n  verify: digest-only\n"
        "  store: {type: s3, bucket: frc, endpoint: 'https://minio.example:9000'}\n"
        "streams: {name: MLOut, annotatedPort: 1182}\n"
    )
    config = read_config(path)
    assert config.model is not None
    assert (config.model.name, config.model.store.bucket, config.streams.name) == ("note", "frc", "MLOut")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("teem: 190", "'teem'"),
        ("team: many", "team must be an integer"),
        ("model: {namespace: a}", "is missing"),
        ("detection: {backend: gpu}", "one of auto, cpu, edgetpu"),
        ("a: [", "config.yaml"),
        ("harvest: {enabled: true}", "needs model"),
        (
            "{device: a/b, harvest: {enabled: true}, model: {namespace: a, name: b, store: {type: directory}}}",
            "device is 'a/b'",
        ),
        ("harvest: {intervalSeconds: 0}", "harvest.intervalSeconds is 0; it must be 0.1 to 86400"),
        ("harvest: {maxMebibytes: -1}", "harvest.maxMebibytes is -1; it must be 0 to"),
        ("team: 99999", "team is 99999; it must be 1 to 25599"),
        ("http: {port: 70000}", "http.port is 70000"),
        ("ntServer: 'robot:abc'", "ntServer is 'robot:abc'; it must be host or host:port"),
        ("ntServer: 'robot:70000'", "host or host:port"),
        ("camera: {width: -5}", "camera.width is -5"),
        ("camera: {fps: 0}", "camera.fps is 0"),
        ("camera: {horizontalFieldOfView: 0}", "camera.horizontalFieldOfView is 0"),
        ("detection: {minScore: .nan}", "detection.minScore is nan; it must be 0 to 1"),
        ("detection: {threads: -4}", "detection.threads is -4"),
        ("streams: {fps: 0}", "streams.fps is 0; it must be 1 to 240"),
        ("{camera: {name: a}, cameras: [{name: b, path: synthetic}]}", "there are camera and cameras"),
        ("cameras: [{name: a}, {name: a}]", "two cameras or streams are called 'a'"),
        ("cameras: [{name: Axon}, {name: b}]", "two cameras or streams are called 'Axon'"),
        ("cameras: [{name: a/b}]", "cameras[0].name is 'a/b'"),
        ("cameras: [{}, {}, {}, {}, {}, {}]", "cameras has 6 entries; a device runs up to 5"),
        ("cameras: [{name: a}, {name: b, fps: 0}]", "cameras[1].fps is 0; it must be 1 to 240"),
        ("cameras: [{name: a}, {name: b, rawPort: 1182}]", "two streams have the port 1182"),
        ("cameras: [{name: a, rawPort: 5808}]", "the status page and a stream both have the port 5808"),
        ("streams: {rawPort: 1182}", "streams.rawPort and streams.annotatedPort are both 1182"),
        ("streams: {width: 0}", "streams.width is 0"),
        ("streams: {compression: 500}", "streams.compression is 500; it must be 0 to 100"),
        (
            "model: {namespace: a, name: b, pollSeconds: 0, store: {type: directory}}",
            "model.pollSeconds is 0",
        ),
    ],
)
def test_a_wrong_config_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml") as caught:
        read_config(path)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--team", "99999"], "team is 99999"),
        (["--http-port", "70000"], "http.port is 70000"),
        (["--nt-server", "robot:"], "ntServer is 'robot:'"),
    ],
)
def test_a_wrong_flag_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], named: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("camera: {path: synthetic}\n")
    options = ["run", "--config", str(config), "--state-dir", str(tmp_path / "state")]
    assert main([*options, *flags]) == 2
    assert f"atoll-edge: a flag: {named}" in capsys.readouterr().err


def test_an_empty_config_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# nothing yet\n")
    assert read_config(path) == EdgeConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("team: 190\n\tdevice: pi\n", ":2: a tab where YAML wants spaces; indent with spaces"),
        ("camera:\n  width: 640\n   height: 480\n", ':3: a second ":" in one value; check the indentation'),
        ("camera:\n   width: 640\n  height: 480\n", ":3: the line is not indented as its neighbours are"),
        ("device: pi\nteam 190\nhttp: {}\n", ':2: there is no ":" after the name'),
        ("taem: 190\n", ": the file has unknown field 'taem'; did you mean 'team'? known are camera, "),
        ("camera: {widht: 640}\n", ": camera has unknown field 'widht'; did you mean 'width'? known are "),
        ("camera: front\n", ": camera "),
        ("- team\n", ": the file "),
    ],
)
def test_a_mistake_in_the_file_is_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main(["status", "--config", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"atoll-edge: {path}{message}")
    assert "EdgeConfig" not in line


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("atoll-edge ")


@pytest.mark.parametrize("name", ["a/b", "..", "../x", "", " ", "Pi vorne", "-x", "x" * 253, "pi\n"])
def test_E24_a_device_name_that_no_key_can_have_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"device": name}))
    with pytest.raises(ConfigError, match=r"device is .* letters, digits and"):
        read_config(path)


@pytest.mark.parametrize(
    ("host", "name"), [("raspberrypi", "raspberrypi"), ("Pi_5.local", "pi-5"), ("_", "device"), ("", "device")]
)
def test_E24_a_host_name_becomes_a_name_that_a_key_can_have(
    monkeypatch: pytest.MonkeyPatch, host: str, name: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert EdgeConfig().device_name == name
