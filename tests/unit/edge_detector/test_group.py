"""Several detectors as one: what a request, an error and the health of all of them are."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.group import DetectorGroup
from atoll_edge.detector.loads import ModelRefused
from atoll_edge.detector.model import DetectorHealth, LoadedModelSpec

MODEL = LoadedModelSpec("v1", "aa", 1, ("a",), (0.5,), Path("cpu.tflite"))


@dataclass
class Member:
    """A detector whose loads the test ends."""

    active: LoadedModelSpec | None = None
    health: DetectorHealth = field(default_factory=DetectorHealth)
    load: "Future[Backend]" = field(default_factory=Future)

    def request(self, _: LoadedModelSpec) -> "Future[Backend]":
        return self.load


def group(*members: Any) -> DetectorGroup:
    return DetectorGroup(members)


def test_a_model_is_loaded_when_every_detector_has_it() -> None:
    first, second = Member(), Member()
    loaded = group(first, second).request(MODEL)
    second.load.set_result(Backend.CPU)
    assert not loaded.done()
    first.load.set_result(Backend.EDGETPU)
    assert loaded.result(0) is Backend.EDGETPU


def test_a_model_that_one_detector_refuses_is_refused_once_all_have_ended() -> None:
    first, second = Member(), Member()
    loaded = group(first, second).request(MODEL)
    second.load.set_exception(ModelRefused("no such operator", missing=False))
    assert not loaded.done()
    first.load.set_result(Backend.CPU)
    assert "no such operator" in str(loaded.exception(0))


def test_a_request_that_another_one_replaced_is_cancelled() -> None:
    first, second = Member(), Member()
    loaded = group(first, second).request(MODEL)
    first.load.set_result(Backend.CPU)
    second.load.cancel()
    second.load.set_running_or_notify_cancel()
    assert loaded.cancelled()


def test_the_model_of_any_detector_answers() -> None:
    assert group(Member(), Member()).active is None
    assert group(Member(), Member(active=MODEL)).active is MODEL


def test_the_health_has_the_losses_of_all_and_the_latest_of_them() -> None:
    first = Member(health=DetectorHealth(backend=Backend.EDGETPU, pid=7))
    second = Member(
        health=DetectorHealth(backend=Backend.CPU, pid=8, given_up=(Backend.EDGETPU,), last_refusal="no device")
    )
    first.health.lost("SIGABRT", 100.0)
    second.health.lost("killed", 90.0)
    health = group(first, second).health
    assert (health.losses, health.last_loss, health.last_loss_at) == (2, "SIGABRT", 100.0)
    assert (health.backend, health.pid) == (Backend.EDGETPU, 7)
    assert (health.fallen_back, health.last_refusal) == (True, "no device")


@pytest.mark.parametrize("at", [0, 1])
def test_a_detector_without_a_backend_does_not_hide_the_others(at: int) -> None:
    members = [Member(), Member()]
    members[at].health = DetectorHealth(backend=Backend.CPU, pid=5)
    assert group(*members).health.backend is Backend.CPU
