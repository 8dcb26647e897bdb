"""The page of a sweep: its picture and table say of each trial what it is, and no name becomes markup."""

import re
from html import unescape

from atoll_cli.sweep_chart import parallel_coordinates
from atoll_cli.sweep_report import sweep_report
from atoll_operator.api.status import RunStatus
from atoll_operator.api.sweep import BestTrial, Parameter, RunTemplate, Scale, SweepStatus, TrainingSweepSpec
from atoll_operator.api.types import Decimal
from atoll_operator.sweeps.trials import Trial, TrialState

RATE = Parameter("learningRate", min=Decimal("0.001"), max=Decimal("0.1"), scale=Scale.LOG)
ARCHITECTURE = Parameter("architecture", values=("ssd", "dfl", "<b>"))


def trial(name: str, ap50: float | None, *, state: TrialState = TrialState.COMPLETED, **settings: str) -> Trial:
    return Trial(
        number=0,
        repeat=0,
        name=name,
        settings=settings,
        state=state,
        ap50=ap50,
        steps=100,
        total_steps=900,
        evaluated_every=150,
        held=False,
        suspended=False,
        cancelled=False,
        status=RunStatus(),
    )


TRIALS = (
    trial("best", 0.9, learningRate="0.01", architecture="dfl"),
    trial("early", 0.3, state=TrialState.PRUNED, learningRate="0.1", architecture="ssd"),
    trial("waits", None, state=TrialState.RUNNING, learningRate="0.001", architecture="ssd"),
    trial("<script>", 0.6, learningRate="0.001", architecture="<b>"),
)
STATUS = SweepStatus(message="<i>done</i>", best=BestTrial("best", "0.900", {"learningRate": "0.01"}))


def page() -> str:
    spec = TrainingSweepSpec(template=RunTemplate({}), parameters=(RATE, ARCHITECTURE))
    return sweep_report("ball & net", spec, STATUS, TRIALS)


def test_each_measured_trial_is_a_line_and_the_best_lies_on_top() -> None:
    lines = re.findall(r"<path (.*?)><title>(.*?)</title></path>", page())
    assert [unescape(title) for _, title in lines] == ["early: 0.300", "<script>: 0.600", "best: 0.900"]
    assert ["stroke-dasharray" in attributes for attributes, _ in lines] == [True, False, False]
    assert ['class="best"' in attributes for attributes, _ in lines] == [False, False, True]
    assert ["hsl(" in attributes for attributes, _ in lines] == [True, True, False]


def test_a_better_trial_is_darker_and_a_logarithmic_axis_is_even() -> None:
    chart = parallel_coordinates((RATE, ARCHITECTURE), TRIALS, best="best")
    assert [line.lightness for line in chart.lines] == [78, 58, 38]
    rates = {line.name: line.points[0][1] for line in chart.lines}
    assert rates["early"] == chart.top
    assert rates["<script>"] == chart.bottom
    assert rates["best"] == (chart.top + chart.bottom) / 2
    assert [label for label, _ in chart.axes[1].ticks] == ["ssd", "dfl", "<b>"]


def test_no_name_message_or_setting_becomes_markup() -> None:
    text = page()
    assert "<script>" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert "Sweep ball &amp; net" in text


def test_the_table_has_every_trial_and_the_page_no_address() -> None:
    text = page()
    rows = re.findall(r"<tr[^>]*><td>(.*?)</td>", text)
    assert [unescape(name) for name in rows] == [item.name for item in TRIALS]
    assert text.count(' class="best"') == 2
    assert "http" not in text
