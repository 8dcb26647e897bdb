"""Reads what `edgetpu_compiler` prints, in the formats of its versions 2, 14, 15 and 16.

With `-s` a table of operations follows the counts; the same table is in `<model>_edgetpu.log`. The two lines "Number of
operations that will run on …" are there only where some operations stay on the CPU. A search (`-d`) prints one report
for every try; the last one counts.
"""

import re
from dataclasses import dataclass

MAPPED = "Mapped to Edge TPU"

_VERSION = re.compile(r"Edge TPU Compiler version (\d+(?:\.\d+)*)")
_SUCCESS = re.compile(r"^Models? compiled successfully in ", re.MULTILINE)
_SUBGRAPHS = re.compile(r"^Number of Edge TPU subgraphs: (\d+)", re.MULTILINE)
_TOTAL = re.compile(r"^Total number of operations: (\d+)", re.MULTILINE)
_ON_TPU = re.compile(r"^Number of operations that will run on Edge TPU: (\d+)", re.MULTILINE)
_ON_CPU = re.compile(r"^Number of operations that will run on CPU: (\d+)", re.MULTILINE)
_HEADING = re.compile(r"^Operator +Count +Status *$", re.MULTILINE)
_ROW = re.compile(r"^([A-Z0-9_]+) +(\d+) +(\S.*?) *$")
_INTERNAL = re.compile(r"internal compiler error", re.IGNORECASE)
_TIMED_OUT = re.compile(r"(timed out|exceeded (?:the )?time|timeout (?:expired|reached))", re.IGNORECASE)
_REFUSED = re.compile(
    r"^(?:ERROR: )?((?:Didn't find op|Op builtin_code|Model not quantized|Model could not be parsed"
    r"|Encountered unresolved custom op|Attempting to use a delegate that only supports static).*)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class OperatorRow:
    """A row of the compiler's table: the operations of one kind, and whether they are mapped."""

    operator: str
    count: int
    status: str


@dataclass(frozen=True)
class CompilerReport:
    """What a compiler's output says. `mapped` and `total` are None where it does not give them."""

    version: str | None
    succeeded: bool
    mapped: int | None
    total: int | None
    rows: tuple[OperatorRow, ...]
    internal_error: bool
    timed_out: bool
    refusal: str | None

    @property
    def unmapped(self) -> tuple[str, ...]:
        """Describes the operations that stay on the CPU, the most frequent first."""
        left = sorted((row for row in self.rows if row.status != MAPPED), key=lambda row: -row.count)
        return tuple(f"{row.count} {row.operator} ({row.status})" for row in left)


def parse_report(output: str, operations_log: str = "") -> CompilerReport:
    """Returns the report in a compiler's `output`; the table may be in its log file instead."""
    output = output.replace("\r\n", "\n")
    starts = [match.start() for match in _SUCCESS.finditer(output)]
    last = output[starts[-1] :] if starts else ""
    # A search that succeeds in the end may have reported failures before.
    decisive = last or output
    rows = _table(last) or _table(operations_log.replace("\r\n", "\n"))
    mapped, total = _counts(last, rows)
    version = _VERSION.search(output)
    refusal = _REFUSED.search(decisive)
    return CompilerReport(
        version=version[1] if version else None,
        succeeded=bool(starts),
        mapped=mapped,
        total=total,
        rows=rows,
        internal_error=bool(_INTERNAL.search(decisive)),
        timed_out=bool(_TIMED_OUT.search(decisive)),
        refusal=refusal[1].strip() if refusal else None,
    )


def _table(text: str) -> tuple[OperatorRow, ...]:
    headings = list(_HEADING.finditer(text))
    if not headings:
        return ()
    rows = []
    for line in text[headings[-1].end() :].splitlines():
        match = _ROW.match(line)
        if match:
            rows.append(OperatorRow(match[1], int(match[2]), match[3]))
        elif line.strip():
            break
    return tuple(rows)


def _counts(report: str, rows: tuple[OperatorRow, ...]) -> tuple[int | None, int | None]:
    """Returns how many operations are mapped, and how many there are: by the counts, else by the table."""
    total = _number(_TOTAL, report)
    on_tpu, on_cpu = _number(_ON_TPU, report), _number(_ON_CPU, report)
    if on_tpu is not None:
        return on_tpu, total if total is not None else on_tpu + (on_cpu or 0)
    if rows:
        mapped = sum(row.count for row in rows if row.status == MAPPED)
        return mapped, total if total is not None else sum(row.count for row in rows)
    if total is None:
        return None, None
    return (total if _number(_SUBGRAPHS, report) else 0), total


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return int(match[1]) if match else None
