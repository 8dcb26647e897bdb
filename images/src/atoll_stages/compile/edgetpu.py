"""The Edge TPU as a compile target: runs Google's `edgetpu_compiler`, reads its report, and verifies its file.

Its versions 2, 14, 15 and 16 are known. With `-s` a table of operations follows the counts; the same table is in
`<model>_edgetpu.log`. The two lines "Number of operations that will run on …" are there only where some operations stay
on the CPU. A search (`-d`) prints one report for every try; the last one counts.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atoll_contract.errors import Reason
from atoll_contract.release import EDGETPU_NAME
from atoll_contract.tflite import TfliteError, read_model
from atoll_stages.compile.process import Deadline, ProgramExit, run_program
from atoll_stages.compile.target import Compilation, CompileInput

logger = logging.getLogger(__name__)

ENV_COMPILER = "ATOLL_EDGETPU_COMPILER"
PROGRAM = "edgetpu_compiler"
# The options of each try. After an internal error the next try may succeed: as it is, for an older runtime, or for a
# smaller part of the model.
PLAN: tuple[tuple[str, ...], ...] = ((), (), (), ("-m", "13"), ("-d", "-k", "10"))
VERSION_SECONDS = 30.0
# From this version on the compiler takes a time limit for its own child.
FIRST_WITH_TIMEOUT = 16
TIMEOUT_RESERVE_SECONDS = 5
# A compiled file holds the weights in another order, and code for them; compilers have left stubs of 1 KB.
MIN_SHARE_OF_INPUT = 0.5
# The Edge TPU runtime that the output of a compiler's version needs (coral.ai).
_RUNTIMES = {"16": 14, "15": 13, "14": 13, "2": 13}

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


@dataclass(frozen=True)
class EdgeTpuTarget:
    """`program` is the compiler's path; where it is None, the environment or the PATH name it."""

    program: Path | None = None

    @property
    def name(self) -> str:
        return "edgetpu"

    @property
    def chips(self) -> tuple[str, ...]:
        return ()

    @property
    def needs_network(self) -> bool:
        return False

    @property
    def processor(self) -> str:
        return "the Edge TPU"

    def file_name(self, chip: str | None) -> str:
        del chip
        return EDGETPU_NAME

    def compile(self, given: CompileInput) -> Compilation:
        model, work, deadline = given.model, given.work, given.deadline
        program = self.program or find_compiler()
        if program is None:
            text = (
                f"no {PROGRAM} is installed here (PATH, {ENV_COMPILER}); build an image that has it, see images/compile"
            )
            return Compilation(Reason.COMPILER_UNAVAILABLE, text)
        work.mkdir(parents=True, exist_ok=True)
        try:
            version = parse_report(_print_version(program, work, deadline)).version
        except OSError as error:
            text = f"{program} cannot be run: {error.strerror}; it runs on Linux on x86-64 only"
            return Compilation(Reason.COMPILER_UNAVAILABLE, text)
        return _Compiler(program, version, model, work, deadline).run()


def find_compiler() -> Path | None:
    """Returns the installed compiler; None where there is none."""
    named = os.environ.get(ENV_COMPILER)
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    found = shutil.which(PROGRAM)
    return Path(found) if found else None


def verify_compiled(path: Path, *, model: Path) -> str | None:
    """Returns why `path` is not the compiled `model`; None where it is."""
    if not path.is_file():
        return "the compiler left no file"
    size, min_size = path.stat().st_size, int(model.stat().st_size * MIN_SHARE_OF_INPUT)
    if size < min_size:
        return f"the compiler's file has {size} bytes, at least {min_size} are expected"
    try:
        compiled, given = read_model(path.read_bytes()), read_model(model.read_bytes())
    except TfliteError as error:
        return f"the compiler's file cannot be read: {error}"
    if not compiled.is_compiled_for_edgetpu:
        return "the compiler's file holds no code for the Edge TPU"
    if compiled.inputs != given.inputs:
        return f"the compiler's file takes {compiled.inputs}, the model takes {given.inputs}"
    return None


@dataclass(frozen=True)
class _Compiler:
    """One compilation by an installed compiler."""

    program: Path
    version: str | None
    model: Path
    work: Path
    deadline: Deadline

    def run(self) -> Compilation:
        """Tries the options of `PLAN` until a file is verified, the model is refused, or time is up."""
        logs: list[str] = []
        result = Compilation(Reason.COMPILE_FAILED, "not tried")
        for number, options in enumerate(PLAN, start=1):
            folder = self.work / f"try-{number}"
            folder.mkdir()
            finished = self._start(folder, options)
            operations = _read(folder / f"{self.model.stem}_edgetpu.log")
            logs.append(f"# try {number}: {' '.join([PROGRAM, *options])}\n{finished.output}\n{operations}")
            report = parse_report(finished.output, operations)
            result = replace(self._result(finished, report, folder, options), log="\n".join(logs))
            if result.compiled or self._is_final(finished, report):
                return result
            logger.warning("try %d of %d: %s", number, len(PLAN), result.message)
        return result

    def _start(self, folder: Path, options: Sequence[str]) -> ProgramExit:
        timeout: list[str] = []
        if self.version and int(self.version.split(".")[0]) >= FIRST_WITH_TIMEOUT:
            timeout = ["-t", str(max(int(self.deadline.left) - TIMEOUT_RESERVE_SECONDS, 1))]
        command: list[str | Path] = [self.program, "-s", "-o", folder, *timeout, *options, self.model]
        return run_program(command, output=folder / "output.txt", deadline=self.deadline)

    def _result(
        self, finished: ProgramExit, report: CompilerReport, folder: Path, options: Sequence[str]
    ) -> Compilation:
        version = report.version or self.version
        base = Compilation(Reason.COMPILE_FAILED, "", compiler_version=version, unmapped=report.unmapped)
        problem = _problem(finished, report)
        if problem is not None:
            return replace(base, message=f"{PROGRAM} {version or ''}: {problem}")
        base = replace(base, mapped=report.mapped, total=report.total)
        if not report.mapped:
            return replace(base, reason=Reason.OPS_NOT_MAPPED, message=_none_mapped(report))
        path = folder / f"{self.model.stem}_edgetpu.tflite"
        problem = verify_compiled(path, model=self.model)
        if problem is not None:
            return replace(base, message=problem)
        text = f"{report.mapped} of {report.total} operations on the Edge TPU"
        runtime = _min_runtime(version, options)
        return replace(base, reason=Reason.COMPLETED, message=text, path=path, min_runtime_version=runtime)

    def _is_final(self, finished: ProgramExit, report: CompilerReport) -> bool:
        """Returns whether no other try can help: the model is refused, or time is up."""
        return report.refusal is not None or finished.returncode is None or report.timed_out or self.deadline.left <= 0


def _problem(finished: ProgramExit, report: CompilerReport) -> str | None:
    if finished.returncode is None or report.timed_out:
        return "it did not end in time; raise the profile's deadline or use a smaller model"
    if report.refusal is not None:
        return f"it refuses the model: {report.refusal}"
    if report.internal_error:
        return "internal compiler error"
    if finished.returncode < 0:
        return f"it was ended by signal {-finished.returncode}"
    if finished.returncode != 0 or not report.succeeded:
        return f"exit code {finished.returncode}, last line {_last_line(finished.output.splitlines())!r}"
    return None


def _none_mapped(report: CompilerReport) -> str:
    first = f"; first: {report.unmapped[0]}" if report.unmapped else ""
    return f"the compiler put 0 of {report.total} operations on the Edge TPU{first}"


def _min_runtime(version: str | None, options: Sequence[str]) -> int | None:
    if "-m" in options:
        return int(options[list(options).index("-m") + 1])
    return _RUNTIMES.get(version.split(".")[0]) if version else None


def _print_version(program: Path, work: Path, deadline: Deadline) -> str:
    version_deadline = Deadline.after(min(VERSION_SECONDS, deadline.left), deadline.stop)
    return run_program([program, "--version"], output=work / "version.txt", deadline=version_deadline).output


def _last_line(lines: Iterable[str]) -> str:
    stripped = [line.strip() for line in lines if line.strip()]
    return stripped[-1][:200] if stripped else ""


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


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
