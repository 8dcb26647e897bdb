"""The tables of docs/targets.md: that of a finished local run, by `python -m support.target_table STORE RUN`, and that
of a run on the project's node, by a test."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from atoll_contract.document import from_json
from atoll_contract.release import Manifest, Role

PAGE = Path(__file__).parents[2] / "docs/targets.md"
# The line before each table.
LOCAL = "<!-- table: python -m support.target_table -->"
CLUSTER = "<!-- table: ATOLL_GOLDEN=write make e2e-targets -->"
END = "<!-- end of the table -->"


@dataclass(frozen=True)
class Row:
    """A form of the model: its figures, its size in bytes, and the seconds that its compiler and simulator took."""

    target: str
    arithmetic: str
    ap50: float
    ap: float
    size: int | None = None
    seconds: float | None = None


def rows(store: Path, run: str) -> list[Row]:
    """Those of a local run."""
    record = json.loads((store / f".atoll/engine/local/{run}/run.json").read_text())
    status = record["status"]
    (path,) = store.glob(f"models/local/*/v{status['release']['version']}/manifest.json")
    return rows_of(status, from_json(Manifest, path.read_bytes()))


def rows_of(status: Mapping[str, Any], manifest: Manifest) -> list[Row]:
    """The float model, the int8 file, and every target whose file its simulator ran."""
    metrics, int8 = status["metrics"], manifest.file(Role.MODEL_INT8)
    assert int8 is not None
    sizes = {item.target: item.size for item in manifest.files if item.target}
    found = [
        Row("float", "TensorFlow", float(metrics["float"]["ap50"]), float(metrics["float"]["ap"])),
        Row("int8", "LiteRT", float(metrics["int8"]["ap50"]), float(metrics["int8"]["ap"]), int8.size),
    ]
    for entry in status["compile"]:
        figures = entry.get("figures", {})
        if figures.get("source") == "simulator":
            seconds = _time(entry["stage"]["completionTime"]) - _time(entry["stage"]["startTime"])
            measured = float(figures["ap50"]), float(figures["ap"])
            arithmetic = f"simulator, compiler {entry['compilerVersion']}"
            found.append(Row(entry["target"], arithmetic, *measured, sizes[entry["target"]], seconds))
    return found


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def table(found: Sequence[Row]) -> str:
    lines = ["| model | arithmetic | AP50 | AP | size | compiled and measured in |", "|---|---|---:|---:|---:|---:|"]
    for row in found:
        size = f"{row.size / 1000:.0f} kB" if row.size else ""
        seconds = f"{row.seconds:.0f} s" if row.seconds is not None else ""
        lines.append(f"| {row.target} | {row.arithmetic} | {row.ap50:.3f} | {row.ap:.3f} | {size} | {seconds} |")
    return "\n".join(lines) + "\n"


def write_table(start: str, text: str) -> None:
    """Writes a table into the page, after the line `start`."""
    before, found, rest = PAGE.read_text(encoding="utf-8").partition(start)
    assert found, f"{PAGE.name} has no line {start}"
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{start}\n\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_table(LOCAL, table(rows(Path(sys.argv[1]), sys.argv[2])))
