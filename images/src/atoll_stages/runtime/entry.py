"""What the five stage programs share: `raise SystemExit(run_stage(Stage.CONVERT, convert))`.

The process that Kubernetes or a user starts is a small parent (standard library only until it stores the log). It
starts the same command again as its child, which does the work; see `parent` and `child`. A stage's `__main__` is
therefore run twice and imports its heavy libraries inside the work.
"""

import os

from atoll_contract.stage import Stage
from atoll_stages.runtime.child import Work, run_child
from atoll_stages.runtime.context import Interrupted, StageContext, StageOutcome
from atoll_stages.runtime.parent import supervise
from atoll_stages.runtime.supervision import ENV_CHILD

__all__ = ["Interrupted", "StageContext", "StageOutcome", "Work", "run_stage"]


def run_stage(stage: Stage, work: Work) -> int:
    """Run one stage as a process; its exit code (`reasons.ExitCode`, or 128 + the signal that ended the work)."""
    handed = os.environ.pop(ENV_CHILD, None)
    if handed is not None:
        run_child(stage, work, handed)
    return supervise(stage)
