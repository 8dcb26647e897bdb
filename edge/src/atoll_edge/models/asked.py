"""What the supervisor asked the detector for."""

from concurrent.futures import Future
from dataclasses import dataclass

from atoll_edge.detector.backend import Backend
from atoll_edge.models.probation import Probation
from atoll_edge.models.served import ServedModel


@dataclass
class Asked:
    """A model that the detector was asked for; `trial` where it is the candidate."""

    release: str
    model: ServedModel
    future: "Future[Backend]"
    trial: bool
    probation: Probation | None = None
