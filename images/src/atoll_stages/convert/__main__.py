"""`python -m atoll_stages.convert` runs the stage; with `--lint PATH [--json]` it reports on an archive or folder."""

import sys

from atoll_contract.stage import Stage
from atoll_stages.runtime.entry import StageContext, StageOutcome, run_stage


def _convert(context: StageContext) -> StageOutcome:
    from atoll_stages.convert.stage import convert

    return convert(context)


def main(arguments: list[str]) -> int:
    if arguments:
        from atoll_stages.convert.lint import run_lint

        return run_lint(arguments)
    return run_stage(Stage.CONVERT, _convert)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
