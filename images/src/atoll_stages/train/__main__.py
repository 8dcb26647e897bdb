"""`python -m atoll_stages.train` runs the stage, whose input is in the environment (docs/contract.md); with `--time
ARCHITECTURE …` it benchmarks this machine, with `--weights WIDTH …` it gets ImageNet weights."""

import sys

from atoll_contract.stage import Stage
from atoll_stages.runtime.entry import StageContext, StageOutcome, run_stage
from atoll_stages.train.devices import quiet_tensorflow


def _train(context: StageContext) -> StageOutcome:
    quiet_tensorflow()
    from atoll_stages.train.stage import train

    return train(context)


def main(arguments: list[str]) -> int:
    if arguments:
        quiet_tensorflow()
        if "--weights" in arguments:
            from atoll_stages.train.fetch_weights import fetch_weights

            return fetch_weights(arguments)
        from atoll_stages.train.benchmark import run_benchmark

        return run_benchmark(arguments)
    return run_stage(Stage.TRAIN, _train)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
