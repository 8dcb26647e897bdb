"""A detector that dies, hangs or loses its device; scripted backends in real processes."""

import os
import signal
from collections.abc import Callable

import pytest

from atoll_edge.camera.source import Frame
from atoll_edge.detector.backends import Backend
from atoll_edge.detector.client import DetectorClient, DetectorLost
from atoll_edge.detector.crashes import PROBE_SECONDS, Losses
from atoll_edge.detector.manager import DetectorKeeper
from atoll_edge.detector.model import Answer, BackendChoice, ServedModel
from support.edge_scripted import COMMAND
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)

Make = Callable[..., DetectorKeeper]
Script = Callable[..., None]


def answer(keeper: DetectorKeeper, frame: Frame, wanted: Callable[[Answer], bool] = lambda _: True) -> Answer:
    """Step until the keeper answers as wanted."""

    def probe() -> Answer | None:
        found = keeper.step(frame)
        return found if found is not None and wanted(found) else None

    return wait_until(probe, what="an answer of the detector", timeout_seconds=120, interval_seconds=0.01)


def test_auto_takes_the_edge_tpu_where_one_is_plugged_in(make_keeper: Make, both: ServedModel, frame: Frame) -> None:
    keeper = make_keeper()
    keeper.request(both)
    assert answer(keeper, frame).backend is Backend.EDGETPU


def test_without_a_coral_the_cpu_answers(make_keeper: Make, both: ServedModel, frame: Frame) -> None:
    keeper = make_keeper(coral=lambda: False)
    keeper.request(both)
    assert answer(keeper, frame).backend is Backend.CPU


def test_a_coral_that_is_listed_but_does_not_answer_gives_way_to_the_cpu(
    make_keeper: Make, script: Script, both: ServedModel, frame: Frame
) -> None:
    script(edgetpu={"missing": True})
    keeper = make_keeper()
    loaded = keeper.request(both)
    assert answer(keeper, frame).backend is Backend.CPU
    assert loaded.result(timeout=0) is Backend.CPU


def test_an_abort_of_the_child_is_survived(make_keeper: Make, script: Script, both: ServedModel, frame: Frame) -> None:
    script(cpu={"abort_after": 4})
    keeper = make_keeper("cpu")
    keeper.request(both)
    first = answer(keeper, frame)
    wait_until(lambda: keeper.step(frame) is None and keeper.health.losses, what="the loss", timeout_seconds=60)
    script()
    assert answer(keeper, frame).model == first.model
    assert keeper.health.last_loss == "the process ended (SIGABRT)"


def test_three_losses_in_a_minute_move_to_the_cpu(
    make_keeper: Make, script: Script, both: ServedModel, frame: Frame
) -> None:
    script(edgetpu={"abort_after": 3})
    keeper = make_keeper()
    keeper.request(both)
    assert answer(keeper, frame, lambda found: found.backend is Backend.CPU).backend is Backend.CPU
    assert keeper.health.losses == 3


def test_where_the_cpu_is_not_allowed_the_edge_tpu_is_tried_for_ever(
    make_keeper: Make, script: Script, both: ServedModel, frame: Frame
) -> None:
    script(edgetpu={"abort_after": 3})
    keeper = make_keeper("edgetpu")
    keeper.request(both)
    wait_until(lambda: keeper.step(frame) is None and keeper.health.losses >= 4, what="losses", timeout_seconds=120)
    script()
    assert answer(keeper, frame).backend is Backend.EDGETPU


def test_a_hanging_child_is_killed_after_its_deadline(script: Script, both: ServedModel, frame: Frame) -> None:
    script(cpu={"hang_after": 2})
    client = DetectorClient(Backend.CPU, command=COMMAND)
    try:
        client.begin_load(str(both.cpu_path), threads=1)
        wait_until(lambda: client.finished_loads(0.1), what="the load", timeout_seconds=60)
        with pytest.raises(DetectorLost, match=r"no answer within 0\.2 s; killed"):
            client.detect(frame.picture, timeout_seconds=0.2)
        with pytest.raises(ProcessLookupError):
            os.kill(client.pid, 0)
    finally:
        client.close()


def test_a_refused_model_leaves_the_one_before(
    make_keeper: Make, script: Script, both: ServedModel, frame: Frame
) -> None:
    keeper = make_keeper("edgetpu")
    keeper.request(both)
    answer(keeper, frame)
    script(edgetpu={"missing": True})
    refused = keeper.request(ServedModel("other-v2", "bb", 2, ("a",), (0.5,), None, both.edgetpu_path))
    wait_until(lambda: (keeper.step(frame), refused.done())[1], what="the refusal", timeout_seconds=60)
    assert "no Edge TPU answers" in str(refused.exception())
    assert answer(keeper, frame).model is both


def test_the_edge_tpu_comes_back_by_a_probe(
    make_keeper: Make, script: Script, both: ServedModel, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll_edge.detector.crashes.PROBE_SECONDS", 0.0)
    script(edgetpu={"missing": True})
    allowed: list[bool] = []
    keeper = make_keeper(probe_allowed=lambda: bool(allowed))
    keeper.request(both)
    assert answer(keeper, frame).backend is Backend.CPU
    script()
    assert answer(keeper, frame).backend is Backend.CPU  # the robot is enabled: nothing is tried
    allowed.append(True)
    assert answer(keeper, frame, lambda found: found.backend is Backend.EDGETPU)


def test_a_coral_that_is_listed_late_is_moved_to(
    make_keeper: Make, script: Script, both: ServedModel, frame: Frame
) -> None:
    """At power-on the agent may be faster than the USB bus, and would stay on the CPU for the whole match."""
    listed: list[bool] = []
    keeper = make_keeper(coral=lambda: bool(listed))
    keeper.request(both)
    assert answer(keeper, frame).backend is Backend.CPU
    assert not keeper.health.fallen_back
    listed.append(True)
    keeper._losses._next_probe = 0.0  # as after half a minute
    assert answer(keeper, frame, lambda found: found.backend is Backend.EDGETPU)


def test_without_a_listed_coral_no_child_is_started_to_look_for_it(
    make_keeper: Make, script: Script, both: ServedModel, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll_edge.detector.crashes.PROBE_SECONDS", 0.0)
    keeper = make_keeper(coral=lambda: False)
    keeper.request(both)
    for _ in range(5):
        answer(keeper, frame)
    assert keeper._probe is None


def test_a_spare_takes_the_place_of_what_died(
    make_keeper: Make, script: Script, both: ServedModel, frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll_edge.detector.client.SPARE_SECONDS", 0.0)
    keeper = make_keeper("cpu")
    keeper.request(both)
    answer(keeper, frame)
    answer(keeper, frame)
    spare = keeper.spare_pid
    assert spare is not None
    assert keeper.health.pid is not None
    os.kill(keeper.health.pid, signal.SIGKILL)
    wait_until(lambda: keeper.step(frame) is None and keeper.health.losses, what="the loss", timeout_seconds=60)
    answer(keeper, frame)
    assert keeper.health.pid == spare


def test_a_system_that_can_start_no_process_is_a_loss_like_another(both: ServedModel, frame: Frame) -> None:
    def spawn(_: Backend) -> DetectorClient:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    keeper = DetectorKeeper(BackendChoice("cpu", lambda: False), threads=1, spawn=spawn)
    loaded = keeper.request(both)
    assert keeper.step(frame) is None
    assert "cannot be started" in str(loaded.exception(timeout=0))
    keeper.close()


def test_losses_that_are_a_minute_apart_do_not_add_up() -> None:
    losses = Losses(cpu_allowed=True)
    given_up = []
    for now in (0.0, 40.0, 80.0, 120.0, 130.0):
        losses.lost(Backend.EDGETPU, now)
        given_up.append(losses.fallen_back)
    assert given_up == [False, False, False, False, True]
    assert not losses.probe_due(130.0 + PROBE_SECONDS - 1)
    assert losses.probe_due(130.0 + PROBE_SECONDS)
    assert not losses.probe_due(130.0 + PROBE_SECONDS + 1)


def test_a_crash_loop_is_slowed() -> None:
    losses = Losses(cpu_allowed=False)
    pauses = []
    for now in range(8):
        losses.lost(Backend.CPU, float(now))
        pauses.append(losses.pause(float(now)))
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0
