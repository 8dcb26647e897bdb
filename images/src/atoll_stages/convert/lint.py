"""`python -m atoll_stages.convert --lint PATH [--json]`: reports what a dataset holds and what is wrong with it.

It converts without writing records, so that it reports what a run would.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from atoll_contract.archive.limits import shown
from atoll_contract.convert_spec import ConvertSpec, Split, SplitBy
from atoll_contract.document import to_json
from atoll_contract.errors import AtollError, DatasetError, ExitCode, Reason, bounded
from atoll_contract.tool_reports import LintClass, LintReport
from atoll_stages.convert.gallery import write_gallery
from atoll_stages.convert.meanings import counted_images
from atoll_stages.convert.pipeline import Conversion, ConversionSummary, Source, read_dataset, summarize
from atoll_stages.convert.problems import Kind, counted
from atoll_stages.convert.statistics import INPUT_SIDES

_SHOWN_PROBLEMS = 10


def lint(paths: Sequence[Path], *, spec: ConvertSpec, work: Path, gallery: Path | None = None) -> LintReport:
    """Reports on archives or folders as one dataset; `work` is scratch. Errors of the data are in the report. A
    `gallery` is a folder that gets thumbnails of some images."""
    shown_path = ", ".join(str(path) for path in paths)
    sources = [Source(path.name, path) for path in paths]
    try:
        for path in paths:
            if not path.exists():
                raise DatasetError(Reason.DATASET_NOT_FOUND, f"there is no {shown(str(path))}")
        with read_dataset(sources, spec, work) as conversion:
            report = _report(shown_path, conversion, summarize(conversion))
            if gallery is not None:
                write_gallery(conversion.store, gallery)
            return report
    except AtollError as error:
        return LintReport(path=shown_path, ok=False, reason=error.reason, message=error.message)


def _report(path: str, conversion: Conversion, summary: ConversionSummary) -> LintReport:
    statistics, counts = summary.statistics, conversion.problems.counts
    images, boxes = statistics.images.total(), statistics.boxes.total()
    return LintReport(
        path=path,
        ok=True,
        reason=Reason.COMPLETED,
        message=", ".join(
            (
                counted_images(images, conversion.sums["pictures"]),
                counted(boxes, "box"),
                counted(len(summary.classes), "class"),
            )
        ),
        formats=tuple(str(form) for formats in conversion.formats for form in formats),
        pictures=images,
        negatives=statistics.negatives.total(),
        split_by=str(summary.split_by),
        split={split: statistics.images[split] for split in statistics.splits},
        classes=tuple(
            LintClass(name, statistics.boxes_of_class(name), statistics.tiny[name]) for name in summary.classes
        ),
        exact_duplicates=counts[Kind.DUPLICATE],
        near_duplicates=summary.near.pairs,
        duplicates_across_split=summary.leaked + summary.near.across_split,
        problem_counts=dict(sorted(counts.items())),
        problems=tuple(conversion.problems.listed),
        warnings=summary.warnings,
        totals=conversion.sums,
        small_boxes={str(side): statistics.small[side] for side in INPUT_SIDES},
    )


def run_lint(arguments: Sequence[str]) -> int:
    """Runs the command and returns the exit code of a run with this dataset."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    spec = ConvertSpec(
        sources=(),
        classes=tuple(options.classes),
        ignore=tuple(options.ignore),
        split=Split(by=SplitBy(options.split_by)),
        max_invalid_percent=options.max_invalid_percent,
    )
    with tempfile.TemporaryDirectory(prefix="atoll-lint-") as work:
        report = lint(options.lint, spec=spec, work=Path(work) / "work", gallery=options.gallery)
    sys.stdout.write(to_json(report).decode() + "\n" if options.json else _text(report))
    return ExitCode.OK if report.ok else AtollError(Reason(report.reason), "").code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m atoll_stages.convert",
        description="Look at labelled pictures without converting them. Without arguments: the convert stage, "
        "which reads its input from the environment.",
    )
    parser.add_argument("--lint", type=Path, nargs="+", required=True, metavar="PATH", help="archive or folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--gallery", type=Path, metavar="FOLDER", help="write thumbnails of some images into it")
    parser.add_argument("--classes", nargs="*", default=[], metavar="NAME", help="only these classes")
    parser.add_argument("--ignore", nargs="*", default=[], metavar="NAME", help="not these classes")
    parser.add_argument("--split-by", choices=[str(by) for by in SplitBy], default=str(SplitBy.AUTO))
    parser.add_argument("--max-invalid-percent", type=float, default=1.0, metavar="PERCENT")
    return parser


def _text(report: LintReport) -> str:
    lines = [f"warning: {warning}" for warning in report.warnings]
    lines.append(f"{report.path}: {report.message}")
    if not report.ok:
        return f"{report.path}: {report.reason}: {report.message}\n"
    splits = ", ".join(f"{split} {count}" for split, count in (report.split or {}).items())
    lines.append(f"format {', '.join(report.formats)}; {report.negatives} without objects")
    lines.append(f"split by {report.split_by}: {splits}")
    width = max((len(item.name) for item in report.classes), default=0)
    for found in report.classes:
        boxes = "  ".join(f"{split} {count:>6}" for split, count in found.boxes.items())
        lines.append(f"  {bounded(found.name):<{width}}  {boxes}  tiny {found.tiny}")
    for name, counts in (report.totals or {}).items():
        lines.append(f"{name}: {', '.join(f'{count:,} {what}' for what, count in counts.items())}")
    lines += [f"{kind}: {count}" for kind, count in (report.problem_counts or {}).items()]
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        item = "" if problem.object is None else f" object {problem.object}"
        lines.append(f"  {problem.file}{item}: {problem.kind}, {problem.action} {problem.detail}".rstrip())
    more = len(report.problems) - _SHOWN_PROBLEMS
    return "\n".join([*lines, *([f"  +{more} more; see --json"] if more > 0 else [])]) + "\n"
