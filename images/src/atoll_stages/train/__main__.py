"""`python -m atoll_stages.train`: the stage, its input in the environment (docs/contract.md); with `--time
ARCHITECTURE …` how fast this machine trains."""

import sys

from atoll_contract.stage import Stage
from atoll_stages.runtime.entry import StageContext, StageOutcome, run_stage


def _train(context: StageContext) -> StageOutcome:
    from atoll_stages.train.devices import quiet_tensorflow

    quiet_tensorflow()
    from atoll_stages.train.stage import train

    return train(context)


def main(arguments: list[str]) -> int:
    if arguments:
        from atoll_stages.train.devices import quiet_tensorflow

        quiet_tensorflow()
        from atoll_stages.train.benchmark import run_timing

        return run_timing(arguments)
    return run_stage(Stage.TRAIN, _train)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
