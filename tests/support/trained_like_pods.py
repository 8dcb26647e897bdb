"""The local engine's training by workers that have as many threads as pods of this machine have.

`python -m support.trained_like_pods FOLDER`, as `support.trained_run`. `atoll run` gives each worker its share of the
processors, and a pod sees all of them; the order of sums, and so the last bits of the weights, follow the threads.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from atoll_cli.local.workers import THREADS
from atoll_contract.stage import Stage
from atoll_contract.tool_reports import SAMPLE_IMAGES, SAMPLE_SIZE
from atoll_stages.sample.field import SampleSpec, write_archive
from support.trained_run import TrainedRun, main, trained_command


class TrainedLikePods(TrainedRun):
    """`folder` has the archive."""

    program = "support.trained_like_pods"


def command_like_pods(stage: Stage, command: Sequence[str]) -> Sequence[str]:
    return ["env", *(f"--unset={name}" for name in THREADS), *trained_command(stage, command)]


def train_here(folder: Path, spec: dict[str, Any]) -> str:
    """The sha256 of the weights that processes of this machine make of the quick start's sample."""
    write_archive(SampleSpec(0, SAMPLE_IMAGES, SAMPLE_SIZE, 0), folder, 1, lambda: None)
    head = {"apiVersion": "atoll.dev/v1alpha1", "kind": "TrainingRun", "metadata": {"name": "noop"}}
    own = {name: value for name, value in spec.items() if name != "profileRef"}
    return TrainedLikePods(folder, yaml.safe_dump(head | {"spec": own})).finish(seconds=1200)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), command_like_pods))
