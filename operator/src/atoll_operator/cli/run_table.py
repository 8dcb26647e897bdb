"""The end of `atoll run` on the screen: the stages, the figures, and where the files are."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from atoll_operator.decide.progress import duration
from atoll_operator.local.launch import Outcome
from atoll_operator.status import Phase


def print_outcome(outcome: Outcome) -> None:
    """Print the result for a reader."""
    console = Console(highlight=False)
    document = outcome.document
    if outcome.recalled:
        console.print(f"run {document['run']} has ended before; --rerun starts it anew", markup=False)
    console.print(_stages(document))
    if "metrics" in document:
        console.print(_metrics(document["metrics"]))
    console.print(f"{document['run']}: {document['phase']}: {_why(document)}", markup=False, soft_wrap=True)
    for name in ("bundle", "report"):
        if name in document:
            console.print(f"{name}: {document[name]}", markup=False, soft_wrap=True)
    if outcome.status.phase is Phase.FAILED:
        console.print(f"output of the stages: {outcome.folder.jobs}/*/output.log", markup=False, soft_wrap=True)


def _why(document: Mapping[str, Any]) -> str:
    failed = document["phase"] == Phase.FAILED
    return f"{document['reason']}: {document['message']}" if failed else str(document["message"])


def _stages(document: Mapping[str, Any]) -> Table:
    table = Table("stage", "phase", "time", "tries", "result", box=None, pad_edge=False)
    for stage in document["stages"]:
        seconds = stage.get("seconds")
        time = duration(seconds) if seconds is not None else ""
        table.add_row(stage["name"], stage["phase"], time, str(stage["attempts"] or ""), _plain(stage["message"]))
    return table


def _metrics(metrics: Mapping[str, Any]) -> Table:
    table = Table("AP50", "float", "int8", box=None, pad_edge=False)
    table.add_row("all classes", _number(metrics["float"].get("ap50")), _number(metrics["int8"].get("ap50")))
    for name, value in metrics["int8"].get("perClass", {}).items():
        table.add_row(_plain(name), "", _number(value))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _plain(text: str) -> str:
    """Text of a user's data set is no markup."""
    from rich.markup import escape

    return escape(text)
