"""Live, ready, started: pure answers from a status. None depends on the store, the robot, DNS or an API server."""

from dataclasses import dataclass

from atoll_edge.models.state import ModelState
from atoll_edge.web.status import Status

FRESH_SECONDS = 2.0


@dataclass(frozen=True)
class Verdict:
    ok: bool
    reason: str


def live(threads_alive: bool, seconds_since_tick: float) -> Verdict:
    """Whether the program works at all; a missing camera or model is no reason to restart it."""
    if not threads_alive:
        return Verdict(False, "a thread of the pipeline ended")
    if seconds_since_tick > 5.0:
        return Verdict(False, f"the supervisor has not ticked for {seconds_since_tick:.0f} s")
    return Verdict(True, "live")


def ready(status: Status) -> Verdict:
    """Whether the robot gets detections of fresh frames."""
    if status.model.state == ModelState.NO_MODEL:
        return Verdict(False, "there is no model")
    for what, seconds in (
        ("frame of the camera", status.camera.seconds_since_frame),
        ("answer of the detector", status.seconds_since_answer),
    ):
        if seconds is None or seconds > FRESH_SECONDS:
            return Verdict(False, f"no {what} for {FRESH_SECONDS:.0f} s")
    return Verdict(True, "ready")
