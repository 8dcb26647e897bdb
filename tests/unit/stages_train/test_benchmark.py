"""`python -m atoll_stages.train --time`: a few real steps of a small detector."""

import subprocess
import sys

import pytest

from atoll_contract.document import from_json
from atoll_contract.tool_reports import Timing

PROGRAM = [sys.executable, "-P", "-m", "atoll_stages.train"]
DETECTOR = ["--time", "ssd-mobilenet-v2-fpnlite-192", "--on-cpu", "0.35x2", "--on-gpu", "1.0x32"]


@pytest.mark.timeout(300)
def test_a_few_steps_tell_how_fast_this_machine_is() -> None:
    command = [*PROGRAM, *DETECTOR, "--classes", "3", "--train", "20", "--validation", "5", "--measured", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    timing = from_json(Timing, done.stdout)
    assert timing.accelerator in ("cpu", "gpu")
    if timing.accelerator == "cpu":
        assert (timing.width, timing.batch) == (0.35, 2)
    assert 0 < timing.seconds_per_step < timing.other_seconds


def test_a_malformed_model_size_is_refused_with_an_example() -> None:
    command = [*PROGRAM, *DETECTOR, "--on-cpu", "0.7x8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 2
    assert "write <width>x<pictures>, as 0.5x8" in done.stderr
