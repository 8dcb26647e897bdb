"""Runs a whole stage process, as a container does."""

import os
import subprocess
import sys
from pathlib import Path

from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage, StageInput
from atoll_contract.store_spec import StoreSpec
from atoll_contract.train_spec import TrainSpec

TESTS = Path(__file__).parents[1]


def run_stage_process(spec: StoreSpec, folder: Path, behaviour: str, **extra: str) -> tuple[int, str, bytes]:
    """Exit code, output and termination message of a whole stage process."""
    given = StageInput(Stage.TRAIN, 1, RunRef("local", "bccd", "7b1e"), spec, train=TrainSpec())
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("ATOLL_", "AWS_"))},
        "PYTHONPATH": str(TESTS),
        "ATOLL_POD_UID": "pod",
        "ATOLL_TERMINATION_LOG": str(folder / "termination-log"),
        "ATOLL_WORK_DIR": str(folder / "work"),
        **given.to_env(),
        **extra,
    }
    done = subprocess.run(
        [sys.executable, "-m", "support.scripted_stage", behaviour],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout, (folder / "termination-log").read_bytes()
