"""`python -m atoll_stages.compare JOB`: two models on the same pictures, as `atoll compare` starts it.

JOB is a file with a `ComparisonJob`. Standard output is one JSON document: the figures, or `reason` and `message` of
what was wrong; standard error has lines of progress as a stage's output has. The exit code is that of the reason.
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
from atoll_stages.compare.inputs import opened, picture_set, trained_on, unseen
from atoll_stages.compare.page import render

TELL_SECONDS = 1.0


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
    """Compare, write the page and say what the JSON says.

    Raises:
        AtollError: a model cannot be run, pictures cannot be read, or none is left.
    """
    old, new = opened(job.old, work / "old"), opened(job.new, work / "new")
    seen = trained_on(job.old, job.new)
    notes = [
        f"What {contender.name} was trained on is not known; if it was these pictures, its figures are too good."
        for contender in dict.fromkeys((job.old, job.new))
        if contender.trained is None
    ]
    with ExitStack() as stack:
        comparisons: list[Comparison] = []
        spent: list[DatasetError] = []
        for number, source in enumerate(job.sources):
            known = stack.enter_context(picture_set(source, work / f"set-{number}"))
            try:
                pictures = unseen(known, seen)
            except DatasetError as error:
                spent.append(error)
                continue
            tick = _teller(pictures.name, number, len(job.sources), 2 * len(pictures.examples))
            comparisons.append(compare(pictures, old, new, tick=tick))
        if not comparisons:
            raise spent[0]
        notes += [error.message for error in spent]
        Path(job.page).write_text(render(old.name, new.name, comparisons, notes), encoding="utf-8")
        sets = [item.document() for item in comparisons]
    return {"old": old.name, "new": new.name, "sets": sets, "notes": notes, "page": job.page}


def _teller(name: str, number: int, sets: int, total: int) -> Callable[[int], None]:
    """Progress every second."""
    told = time.monotonic() - TELL_SECONDS

    def tick(done: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= TELL_SECONDS:
            told = now
            emit(Progress(100 * (number + done / total) / sets, message=name), sys.stderr)

    return tick


if __name__ == "__main__":
    sys.exit(main())
