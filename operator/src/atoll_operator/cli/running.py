"""What a command may ask of a run depends on whether it has ended."""

from typing import Any

from atoll_contract.errors import SpecError
from atoll_operator.cli.run_watch import is_settled, status_of
from atoll_operator.status import Phase


def require_running(run: dict[str, Any]) -> None:
    """Raises SpecError where the run has ended."""
    if is_settled(run):
        status = status_of(run)
        name = run["metadata"]["name"]
        advice = f"; atoll retry {name} starts it again" if status.phase is Phase.FAILED else ""
        raise SpecError(f"run {name} has ended already: {status.phase}{advice}")
