"""The entry point of the stage programs: `raise SystemExit(run_stage(Stage.CONVERT, convert))`.

The process that Kubernetes or a user starts is a small parent, without heavy libraries until it stores the log. It
starts the same command again as its child, which does the work; see `parent` and `child`. So a stage's `__main__` runs
twice, and imports its heavy libraries inside the work.
"""

import os

from atoll_contract.stage import Stage
from atoll_stages.runtime.child import Work, run_child
from atoll_stages.runtime.context import Interrupted, StageContext, StageOutcome
from atoll_stages.runtime.parent import supervise
from atoll_stages.runtime.supervision import ENV_CHILD, ChildArguments

__all__ = ["Interrupted", "StageContext", "StageOutcome", "Work", "run_stage"]


def run_stage(stage: Stage, work: Work) -> int:
    """Runs one stage as a process, and returns its exit code (`ExitCode`, or 128 + the signal that ended the work)."""
    arguments = os.environ.pop(ENV_CHILD, None)
    if arguments is not None:
        run_child(stage, work, ChildArguments.from_env(arguments))
    return supervise(stage)
