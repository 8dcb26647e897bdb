"""`python -m atoll_stages.compare JOB` runs two models on the same images; `atoll compare` starts it.

JOB is a file with a `ComparisonJob`. Standard output is one JSON document: the metrics, or `reason` and `message` of an
error. Standard error has progress lines, as a stage's output has. The exit code is that of the reason.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from atoll_contract.document import from_json
from atoll_contract.errors import AtollError, DatasetError, ExitCode
from atoll_contract.stage_result import Progress, emit
from atoll_contract.tool_reports import ComparisonJob
from atoll_stages.compare.comparison import Comparison, compare
from atoll_stages.compare.inputs import load_model, open_image_set, training_digests, without_training_images
from atoll_stages.compare.page import render_comparison

REPORT_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m atoll_stages.compare", description=__doc__)
    parser.add_argument("job", type=Path)
    job = from_json(ComparisonJob, parser.parse_args(arguments).job.read_bytes())
    try:
        with tempfile.TemporaryDirectory(prefix="atoll-compare-") as folder:
            document = run(job, Path(folder))
    except AtollError as error:
        print(json.dumps({"reason": error.reason, "message": error.message}, ensure_ascii=False))
        return int(error.code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    print(json.dumps(document, indent=2, ensure_ascii=False))
    return 0


def run(job: ComparisonJob, work: Path) -> dict[str, Any]:
    """Compares the models, writes the page and returns the document.

    Raises:
        AtollError: a model cannot be run, images cannot be read, or none is left.
    """
    old, new = load_model(job.old, work / "old"), load_model(job.new, work / "new")
    digests = training_digests(job.old, job.new)
    notes = [
        f"What {contender.name} was trained on is not known; if it was these pictures, its figures are too good."
        for contender in dict.fromkeys((job.old, job.new))
        if contender.trained is None
    ]
    with ExitStack() as stack:
        comparisons: list[Comparison] = []
        unusable: list[DatasetError] = []
        for number, source in enumerate(job.sources):
            image_set = stack.enter_context(open_image_set(source, work / f"set-{number}"))
            try:
                images = without_training_images(image_set, digests)
            except DatasetError as error:
                unusable.append(error)
                continue
            on_progress = _progress_printer(images.name, number, len(job.sources), 2 * len(images.examples))
            comparisons.append(compare(images, old, new, on_progress=on_progress))
        if not comparisons:
            raise unusable[0]
        notes += [error.message for error in unusable]
        page = render_comparison(old.name, new.name, comparisons, notes)
        Path(job.page).write_text(page, encoding="utf-8")
        sets = [item.document() for item in comparisons]
    return {"old": old.name, "new": new.name, "sets": sets, "notes": notes, "page": job.page}


def _progress_printer(name: str, number: int, sets: int, total: int) -> Callable[[int], None]:
    """Returns a function that prints the progress within a set, at most once a second."""
    printed = time.monotonic() - REPORT_SECONDS

    def on_progress(done: int) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed >= REPORT_SECONDS:
            printed = now
            emit(Progress(100 * (number + done / total) / sets, message=name), sys.stderr)

    return on_progress


if __name__ == "__main__":
    sys.exit(main())
