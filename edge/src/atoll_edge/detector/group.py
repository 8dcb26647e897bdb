"""Several detectors as one: each is a process of its own, and all run the same model.

A request for a model goes to all of them, and has ended when all of them have it, or one cannot run it.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.detector.model import DetectorHealth, LoadedModelSpec


class DetectorGroup:
    """The detectors of a device. Each of `members` is used by a thread of its own; any thread may use the group."""

    def __init__(self, members: Sequence[DetectorManager]) -> None:
        self.members = tuple(members)

    @property
    def active(self) -> LoadedModelSpec | None:
        """The model that answers in the first detector that has one."""
        return next((member.active for member in self.members if member.active is not None), None)

    @property
    def idle_accelerators(self) -> tuple[str, ...]:
        """What the device has and its first detector does not use, with the reason."""
        return self.members[0].idle_accelerators

    def backend_for(self, model: LoadedModelSpec) -> Backend | None:
        """See DetectorManager.backend_for; that of the first detector."""
        return self.members[0].backend_for(model)

    @property
    def spare_pid(self) -> int | None:
        return self.members[0].spare_pid

    @property
    def health(self) -> DetectorHealth:
        """That of all detectors together: their losses are summed, the last loss is the latest of them."""
        found = [member.health for member in self.members]
        latest = max(found, key=lambda health: health.last_loss_at or 0.0)
        serving = next((health for health in found if health.backend is not None), found[0])
        return DetectorHealth(
            losses=sum(health.losses for health in found),
            last_loss=latest.last_loss,
            last_loss_at=latest.last_loss_at,
            last_refusal=next((health.last_refusal for health in found if health.last_refusal), ""),
            backend=serving.backend,
            given_up=tuple(dict.fromkeys(backend for health in found for backend in health.given_up)),
            pid=serving.pid,
        )

    def request(self, model: LoadedModelSpec) -> "Future[Backend]":
        """Requests that `model` becomes active in every detector; see DetectorManager.request.

        The future has the first detector's backend, or the first error. Where only some detectors can run the model,
        those have it until another one is requested.
        """
        return _all_of([member.request(model) for member in self.members])

    def close(self) -> None:
        for member in self.members:
            member.close()


def _all_of(futures: Sequence["Future[Backend]"]) -> "Future[Backend]":
    """Returns a future that ends when all of `futures` have: with the first error, or with the first result."""
    together: Future[Backend] = Future()
    lock = threading.Lock()
    left = len(futures)

    def ended(_: "Future[Backend]") -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        if any(future.cancelled() for future in futures):
            together.cancel()
        elif (failed := next((future for future in futures if future.exception() is not None), None)) is not None:
            together.set_exception(failed.exception())
        else:
            together.set_result(futures[0].result())

    for future in futures:
        future.add_done_callback(ended)
    return together
