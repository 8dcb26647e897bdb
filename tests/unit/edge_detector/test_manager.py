"""A detector that dies, hangs or loses its device; scripted backends in real processes."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from atoll_edge.camera.source import Frame
from atoll_edge.detector.backends.base import INSTALL, Backend
from atoll_edge.detector.backends.choose import BackendChoice
from atoll_edge.detector.backends.hardware import Accelerator
from atoll_edge.detector.client import DetectorClient, DetectorLost
from atoll_edge.detector.loads import ModelRefused
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.detector.model import DetectionResult, LoadedModelSpec
from atoll_edge.detector.pool import PROBE_SECONDS, CrashTracker
from support.polling import wait_until
from support.scripted_detector import COMMAND

pytestmark = pytest.mark.timeout(300)

Make = Callable[..., DetectorManager]
Script = Callable[..., None]


def answer(
    detector: DetectorManager, frame: Frame, wanted: Callable[[DetectionResult], bool] = lambda _: True
) -> DetectionResult:
    """Steps until the detector gives the wanted result."""

    def probe() -> DetectionResult | None:
        found = detector.step(frame)
        return found if found is not None and wanted(found) else None

    return wait_until(probe, what="an answer of the detector", timeout_seconds=120, interval_seconds=0.01)


def test_auto_takes_the_edge_tpu_where_one_is_plugged_in(
    make_detector: Make, both: LoadedModelSpec, frame: Frame
) -> None:
    detector = make_detector()
    detector.request(both)
    assert answer(detector, frame).backend is Backend.EDGETPU


def test_without_a_coral_the_cpu_answers(make_detector: Make, both: LoadedModelSpec, frame: Frame) -> None:
    detector = make_detector(coral=lambda: False)
    detector.request(both)
    assert answer(detector, frame).backend is Backend.CPU


def test_a_coral_that_is_listed_but_does_not_answer_gives_way_to_the_cpu(
    make_detector: Make, script: Script, both: LoadedModelSpec, frame: Frame
) -> None:
    script(edgetpu={"missing": True})
    detector = make_detector()
    loaded = detector.request(both)
    assert answer(detector, frame).backend is Backend.CPU
    assert loaded.result(timeout=0) is Backend.CPU


def test_an_abort_of_the_child_is_survived(
    make_detector: Make, script: Script, both: LoadedModelSpec, frame: Frame
) -> None:
    script(cpu={"abort_after": 4})
    detector = make_detector("cpu")
    detector.request(both)
    first = answer(detector, frame)
    wait_until(lambda: detector.step(frame) is None and detector.health.losses, what="the loss", timeout_seconds=60)
    script()
    assert answer(detector, frame).model == first.model
    assert detector.health.last_loss == "the process ended (SIGABRT)"


def test_three_losses_in_a_minute_move_to_the_cpu(
    make_detector: Make, script: Script, both: LoadedModelSpec, frame: Frame
) -> None:
    script(edgetpu={"abort_after": 3})
    detector = make_detector()
    detector.request(both)
    assert answer(detector, frame, lambda found: found.backend is Backend.CPU).backend is Backend.CPU
    assert detector.health.losses == 3


def test_where_the_cpu_is_not_allowed_the_edge_tpu_is_tried_for_ever(
    make_detector: Make, script: Script, both: LoadedModelSpec, frame: Frame
) -> None:
    script(edgetpu={"abort_after": 3})
    detector = make_detector("edgetpu")
    detector.request(both)
    wait_until(lambda: detector.step(frame) is None and detector.health.losses >= 4, what="losses", timeout_seconds=120)
    script()
    assert answer(detector, frame).backend is Backend.EDGETPU


def test_a_hanging_child_is_killed_after_its_deadline(script: Script, both: LoadedModelSpec, frame: Frame) -> None:
    script(cpu={"hang_after": 2})
    client = DetectorClient(Backend.CPU, command=COMMAND)
    try:
        client.begin_load(str(both.cpu_path), threads=1)
        wait_until(lambda: client.finished_loads(0.1), what="the load", timeout_seconds=60)
        with pytest.raises(DetectorLost, match=r"no answer within 0\.2 s; killed"):
            client.detect(frame.image, timeout_seconds=0.2)
        with pytest.raises(ProcessLookupError):
            os.kill(client.pid, 0)
    finally:
        client.close()


def test_a_refused_model_leaves_the_one_before(
    make_detector: Make, script: Script, both: LoadedModelSpec, frame: Frame
) -> None:
    detector = make_detector("edgetpu")
    detector.request(both)
    answer(detector, frame)
    script(edgetpu={"missing": True})
    refused = detector.request(LoadedModelSpec("other-v2", "bb", 2, ("a",), (0.5,), None, both.edgetpu_path))
    wait_until(lambda: (detector.step(frame), refused.done())[1], what="the refusal", timeout_seconds=60)
    assert "no Edge TPU answers" in str(refused.exception())
    assert answer(detector, frame).model is both


def test_the_edge_tpu_comes_back_by_a_probe(
    make_detector: Make, script: Script, both: LoadedModelSpec, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll_edge.detector.pool.PROBE_SECONDS", 0.0)
    script(edgetpu={"missing": True})
    allowed: list[bool] = []
    detector = make_detector(probe_allowed=lambda: bool(allowed))
    detector.request(both)
    assert answer(detector, frame).backend is Backend.CPU
    script()
    assert answer(detector, frame).backend is Backend.CPU  # the robot is enabled: nothing is tried
    allowed.append(True)
    assert answer(detector, frame, lambda found: found.backend is Backend.EDGETPU)


def test_a_coral_that_is_listed_late_is_moved_to(
    make_detector: Make, script: Script, both: LoadedModelSpec, frame: Frame
) -> None:
    """At power-on the agent may be faster than the USB bus, and would stay on the CPU for the whole match."""
    listed: list[bool] = []
    detector = make_detector(coral=lambda: bool(listed))
    detector.request(both)
    assert answer(detector, frame).backend is Backend.CPU
    assert not detector.health.fallen_back
    listed.append(True)
    detector._crashes._next_probe = 0.0  # as after half a minute
    assert answer(detector, frame, lambda found: found.backend is Backend.EDGETPU)


def test_without_a_listed_coral_no_worker_is_started_to_probe_for_it(
    make_detector: Make, script: Script, both: LoadedModelSpec, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll_edge.detector.pool.PROBE_SECONDS", 0.0)
    detector = make_detector(coral=lambda: False)
    detector.request(both)
    for _ in range(5):
        answer(detector, frame)
    assert detector._probe is None


ROCKCHIP = Accelerator(Backend.RKNN, "rk3588")


@pytest.fixture
def three(both: LoadedModelSpec, tmp_path: Path) -> LoadedModelSpec:
    """A release with a model for the Rockchip NPU, too."""
    return replace(both, rknn_path=tmp_path / "model-rk3588.rknn", side=64)


def test_the_processors_npu_is_taken_where_the_release_has_its_file(
    make_detector: Make, both: LoadedModelSpec, three: LoadedModelSpec, frame: Frame
) -> None:
    detector = make_detector(coral=lambda: False, also=(ROCKCHIP,))
    assert detector.backend_for(both) is Backend.CPU
    detector.request(both)
    assert answer(detector, frame).backend is Backend.CPU
    [idle] = detector.idle_accelerators
    assert "both-v1 holds no file for it" in idle
    detector.request(three)
    assert answer(detector, frame, lambda found: found.model is three).backend is Backend.RKNN
    assert detector.idle_accelerators == detector.health.given_up == ()


def test_E29_an_npu_without_its_library_is_said_and_not_tried(
    make_detector: Make, three: LoadedModelSpec, frame: Frame
) -> None:
    detector = make_detector(coral=lambda: False, also=(replace(ROCKCHIP, missing=INSTALL[Backend.RKNN]),))
    detector.request(three)
    assert answer(detector, frame).backend is Backend.CPU
    assert not detector.health.fallen_back
    [idle] = detector.idle_accelerators
    assert "--rknn FOLDER" in idle


def test_E29_a_file_that_the_npu_cannot_run_goes_to_the_cpu_and_is_not_tried_again(
    make_detector: Make, script: Script, three: LoadedModelSpec, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll_edge.detector.pool.PROBE_SECONDS", 0.0)
    script(rknn={"refused": "an SSD"})
    detector = make_detector(coral=lambda: False, also=(ROCKCHIP,))
    loaded = detector.request(three)
    assert answer(detector, frame).backend is Backend.CPU
    assert loaded.result(timeout=0) is Backend.CPU
    assert detector.health.given_up == (Backend.RKNN,)
    assert detector.health.last_refusal == "an SSD"
    for _ in range(5):
        answer(detector, frame)
    assert detector._probe is None
    script()
    next_one = replace(three, name="both-v2", digest="bb", sequence=2)
    detector.request(next_one)
    assert answer(detector, frame, lambda found: found.model is next_one).backend is Backend.RKNN


def test_each_accelerator_is_tried_before_the_cpu(
    make_detector: Make, script: Script, three: LoadedModelSpec, frame: Frame
) -> None:
    script(edgetpu={"missing": True})
    detector = make_detector(also=(ROCKCHIP,), probe_allowed=lambda: False)
    detector.request(three)
    assert answer(detector, frame).backend is Backend.RKNN
    assert detector.health.given_up == (Backend.EDGETPU,)


def test_where_the_setting_names_an_accelerator_no_other_backend_is_taken(
    make_detector: Make, script: Script, three: LoadedModelSpec, frame: Frame
) -> None:
    script(rknn={"missing": True})
    detector = make_detector("rknn", also=(ROCKCHIP,))
    loaded = detector.request(three)
    wait_until(lambda: (detector.step(frame), loaded.done())[1], what="the refusal", timeout_seconds=60)
    error = loaded.exception()
    assert isinstance(error, ModelRefused)
    assert error.missing
    assert detector.health.backend is None


def test_a_spare_replaces_a_worker_that_died(
    make_detector: Make, script: Script, both: LoadedModelSpec, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll_edge.detector.pool.SPARE_SECONDS", 0.0)
    detector = make_detector("cpu")
    detector.request(both)
    answer(detector, frame)
    answer(detector, frame)
    spare = detector.spare_pid
    assert spare is not None
    assert detector.health.pid is not None
    os.kill(detector.health.pid, signal.SIGKILL)
    wait_until(lambda: detector.step(frame) is None and detector.health.losses, what="the loss", timeout_seconds=60)
    answer(detector, frame)
    assert detector.health.pid == spare


def test_a_system_that_can_start_no_process_is_a_loss_like_another(both: LoadedModelSpec, frame: Frame) -> None:
    def spawn(_: Backend) -> DetectorClient:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    detector = DetectorManager(BackendChoice("cpu"), threads=1, spawn=spawn)
    loaded = detector.request(both)
    assert detector.step(frame) is None
    assert "cannot be started" in str(loaded.exception(timeout=0))
    detector.close()


def test_losses_that_are_a_minute_apart_do_not_add_up() -> None:
    losses = CrashTracker(may_give_up=True)
    given_up = []
    for now in (0.0, 40.0, 80.0, 120.0, 130.0):
        losses.lost(Backend.EDGETPU, now)
        given_up.append(bool(losses.given_up))
    assert given_up == [False, False, False, False, True]
    assert not losses.probe_due(130.0 + PROBE_SECONDS - 1)
    assert losses.probe_due(130.0 + PROBE_SECONDS)
    assert not losses.probe_due(130.0 + PROBE_SECONDS + 1)


def test_a_crash_loop_is_slowed() -> None:
    losses = CrashTracker(may_give_up=False)
    pauses = []
    for now in range(8):
        losses.lost(Backend.CPU, float(now))
        pauses.append(losses.restart_delay(float(now)))
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0
