"""The whole agent from a bucket to a robot: online, offline, changed by a user, and with a detector that dies."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_contract.document import from_json
from atoll_contract.harvest import HarvestNote
from atoll_contract.release import DeviceReport
from atoll_edge.config import HarvestConfig
from atoll_edge.models.release_store import StoreLocked
from atoll_edge.robot.topics import detection_struct
from support.edge_agent import DEVICE, RunningAgent
from support.edge_release import MODEL, NAMESPACE, publish
from support.edge_robot import Robot
from support.polling import wait_until

pytestmark = pytest.mark.timeout(600)

DETECTIONS = "/Atoll/front/detections"


@pytest.fixture
def robot() -> Iterator[Robot]:
    server = Robot()
    yield server
    server.close()


def test_a_release_reaches_the_robot_and_the_next_one_takes_over(tmp_path: Path, robot: Robot) -> None:
    samples = robot.struct_reader(DETECTIONS, detection_struct())
    robot.watch("/Atoll/front/modelSeq", "/Atoll/front/state", "/ML/coral", "/CameraPublisher/Axon/streams")
    running = RunningAgent(tmp_path, robot.port)
    try:
        publish(running.bucket, 1)
        running.wait_for("Active", 1)
        assert robot.sample("/Atoll/front/modelSeq", lambda value: value == 1)
        assert robot.sample("/ML/coral").value == "Unoptimized"
        [stream, *_] = robot.sample("/CameraPublisher/Axon/streams").value
        assert stream.startswith("mjpg:http://pi-front.local:")
        wait_until(lambda: any(values for _, values in samples(1)), what="a detection at the robot", timeout_seconds=60)
        publish(running.bucket, 2)
        running.wait_for("Active", 2)
        assert robot.sample("/Atoll/front/modelSeq", lambda value: value == 2)
        assert running.agent.detector.health.losses == 0
    finally:
        running.close()


def test_the_bucket_learns_what_the_device_runs(tmp_path: Path, robot: Robot) -> None:
    running = RunningAgent(tmp_path, robot.port)
    key = f"devices/{NAMESPACE}/{MODEL}/{DEVICE}.json"

    def report() -> DeviceReport | None:
        if running.bucket.head(key) is None:
            return None
        read = from_json(DeviceReport, running.bucket.get(key))
        return read if read.state == "Active" else None

    try:
        release = publish(running.bucket, 1)
        found = wait_until(report, what="the device's report", timeout_seconds=120)
    finally:
        running.close()
    assert (found.release, found.version, found.manifest_sha256) == (f"{MODEL}-v1", 1, release.sha256)
    assert (found.desired_version, found.backend, found.error) == (1, "cpu", None)


def test_offline_at_boot_the_cached_model_serves(tmp_path: Path, robot: Robot) -> None:
    first = RunningAgent(tmp_path, robot.port)
    publish(first.bucket, 1)
    first.wait_for("Active", 1)
    first.close()
    (tmp_path / "bucket").rename(tmp_path / "unreachable")
    second = RunningAgent(tmp_path, robot.port)
    try:
        second.wait_for("Active", 1)
        wait_until(lambda: second.get("/readyz")[0] == 200, what="readiness", timeout_seconds=60)
        assert second.get("/livez")[0] == 200
    finally:
        second.close()


def test_a_refused_release_is_reported_everywhere(tmp_path: Path, robot: Robot) -> None:
    robot.watch("/Atoll/front/state")
    running = RunningAgent(tmp_path, robot.port)
    try:
        publish(running.bucket, 1)
        running.wait_for("Active", 1)
        publish(running.bucket, 2, model=b"no model")
        running.wait_for("Rejected", 1)
        assert robot.sample("/Atoll/front/state", lambda value: value == "Rejected")
        status = json.loads(running.get("/status")[1])
        assert "colours-v2 failed its self-test" in status["model"]["lastRefusal"]
        assert running.get("/readyz")[0] == 200
    finally:
        running.close()


def test_page_probes_metrics_image_and_streams(tmp_path: Path, robot: Robot) -> None:
    token = tmp_path / "token"
    token.write_text("open sesame\n")
    running = RunningAgent(tmp_path, robot.port, token_file=str(token))
    try:
        assert running.get("/startupz")[0] == 200
        assert running.get("/readyz") == (503, b"there is no model\n")
        publish(running.bucket, 1)
        running.wait_for("Active", 1)
        wait_until(lambda: running.get("/readyz")[0] == 200, what="readiness", timeout_seconds=60)
        assert b"<title>Atoll edge</title>" in running.get("/")[1]
        assert running.get("/picture.jpg")[1].startswith(b"\xff\xd8\xff")
        metrics = running.get("/metrics")[1].decode()
        assert 'atoll_edge_backend_info{backend="cpu"} 1.0' in metrics
        assert "atoll_edge_inference_seconds_count" in metrics
        counted = [line for line in metrics.splitlines() if line.startswith("atoll_edge_capture_to_publish_seconds_")]
        values = dict(line.rsplit(" ", 1) for line in counted)
        assert float(values['atoll_edge_capture_to_publish_seconds_count{camera="front"}']) > 0
        assert "harvest" not in json.loads(running.get("/status")[1])
        assert running.get("/nothing")[0] == 404
        assert running.post("/actions/pin", None)[0] == 403
        assert running.post("/actions/pin", "wrong")[0] == 403
        assert running.post("/actions/pin", "open sesame")[0] == 200
        assert json.loads(running.get("/status")[1])["model"]["pinned"] is True
        assert b"no earlier release" in running.post("/actions/rollback", "open sesame")[1]
        for port in (running.config.streams.raw_port, running.config.streams.annotated_port):
            assert_mjpeg(port)
    finally:
        running.close()


def assert_mjpeg(port: int) -> None:
    """A JPEG arrives in a multipart stream; after the viewer has left, nothing is encoded."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/?action=stream", timeout=30) as stream:
        assert "multipart/x-mixed-replace" in stream.headers["Content-Type"]
        assert b"\xff\xd8\xff" in stream.read(4096)


def test_nobody_looking_means_nothing_is_encoded(tmp_path: Path, robot: Robot) -> None:
    running = RunningAgent(tmp_path, robot.port)
    try:
        marked = running.agent.pipeline.streams.annotated
        assert marked is not None
        assert not marked.watched
        url = f"http://127.0.0.1:{marked.port}/?action=stream"
        with urllib.request.urlopen(url, timeout=30) as stream:
            wait_until(lambda: marked.watched, what="the stream to be watched")
            stream.read(2048)
        wait_until(lambda: not marked.watched, what="the stream to be left", timeout_seconds=60)
    finally:
        running.close()


def test_a_second_agent_on_the_same_store_is_refused(tmp_path: Path, robot: Robot) -> None:
    running = RunningAgent(tmp_path, robot.port)
    try:
        with pytest.raises(StoreLocked, match="systemctl stop atoll-edge"):
            RunningAgent(tmp_path, robot.port)
    finally:
        running.close()


def test_heartbeat_and_empty_lists_go_on_without_a_detector(tmp_path: Path, robot: Robot) -> None:
    """Without a model the robot still gets the heartbeat and empty lists."""
    samples = robot.struct_reader(DETECTIONS, detection_struct())
    robot.watch("/Atoll/front/heartbeat", "/Atoll/front/state")
    running = RunningAgent(tmp_path, robot.port)
    try:
        first = robot.sample("/Atoll/front/heartbeat").value
        robot.sample("/Atoll/front/heartbeat", lambda value: value > first + 5)
        assert robot.sample("/Atoll/front/state").value == "NoModel"
        assert all(values == [] for _, values in samples(3))
    finally:
        running.close()


def test_the_match_lock_is_the_fields_control_word(tmp_path: Path, robot: Robot) -> None:
    robot.tables.integers("/FMSInfo/FMSControlData").set(1 << 4 | 1)
    running = RunningAgent(tmp_path, robot.port)
    try:
        wait_until(lambda: running.agent.match.now().locked, what="the match")
        publish(running.bucket, 1)
        robot.watch("/Atoll/front/heartbeat")
        beat = robot.sample("/Atoll/front/heartbeat").value
        robot.sample("/Atoll/front/heartbeat", lambda value: value > beat + 20)  # the time of four polls
        assert running.agent.manager.model_status().sequence is None
        robot.tables.integers("/FMSInfo/FMSControlData").set(1 << 5)
        running.wait_for("Active", 1)
    finally:
        running.close()


def test_uncertain_frames_reach_the_bucket_and_the_page_counts_them(tmp_path: Path, robot: Robot) -> None:
    # The colour detector is never uncertain, so every frame counts.
    wanted = HarvestConfig(enabled=True, interval_seconds=0.2, min_doubt=0.0, min_free_mebibytes=0)
    field = robot.tables.integers("/FMSInfo/FMSControlData")
    field.set(1 << 4)
    running = RunningAgent(tmp_path, robot.port, harvest=wanted)

    def notes() -> list[str]:
        listed = running.bucket.list(f"harvest/{NAMESPACE}/{DEVICE}/")
        return [info.key for info in listed if info.key.endswith(".json")]

    try:
        wait_until(lambda: running.agent.match.now().locked, what="the match")
        field.set(0)
        publish(running.bucket, 1)
        running.wait_for("Active", 1)
        wait_until(lambda: len(notes()) >= 2, what="two frames in the bucket", timeout_seconds=60)
        field.set(1 << 4)
        wait_until(lambda: running.agent.match.now().locked, what="the match")
        status = json.loads(running.get("/status")[1])["harvest"]
        metrics = running.get("/metrics")[1].decode()
    finally:
        running.close()
    found = notes()[0]
    note = from_json(HarvestNote, running.bucket.get(found))
    assert (note.camera, note.release, note.labels) == ("front", f"{MODEL}-v1", ("red", "blue"))
    assert note.detections
    assert running.bucket.head(found.replace(".json", ".jpg")) is not None
    assert status["kept"] >= 2
    assert status["uploaded"] >= 1
    assert status["paused"] is True
    assert f"atoll_edge_harvest_kept_total {status['kept']:.1f}" in metrics
