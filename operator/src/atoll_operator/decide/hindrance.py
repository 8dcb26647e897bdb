"""A run that the engine itself is kept from: its status says so until that has passed. Pure."""

from dataclasses import replace
from datetime import datetime

from atoll_contract.errors import bounded
from atoll_contract.reasons import Reason
from atoll_operator.decide.conditions import conditions
from atoll_operator.status import RunStatus
from atoll_operator.views import RunView


def hindered(run: RunView, status: RunStatus, now: datetime) -> RunStatus:
    """`status` with its conditions, and while `run.hindrance` stands with that as reason and message."""
    if run.hindrance and not status.is_terminal:
        status = replace(status, reason=Reason.INTERNAL_ERROR, message=bounded(run.hindrance))
    return replace(status, conditions=conditions(run, status, now))
