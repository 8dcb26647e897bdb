"""Times this machine for a draft, with the train stage's own program."""

from collections.abc import Callable

from atoll_contract.lint import LintReport
from atoll_contract.timing import Timing
from atoll_operator.draft.draft import Stopwatch
from atoll_operator.draft.settings import Settings
from atoll_operator.local.tools import timed


def stopwatch_for(look: LintReport, *, told: Callable[[str], None] = lambda _: None) -> Stopwatch:
    """A stopwatch for what `look` has seen; `told` hears that it takes a moment."""

    def time(on_cpu: Settings, on_gpu: Settings) -> Timing:
        told("timing a few training steps on this machine (--no-timing leaves it out)")
        return timed(look, on_cpu.architecture, on_cpu=on_cpu.timed_as, on_gpu=on_gpu.timed_as, steps=on_cpu.steps)

    return time
