"""`python -m atoll_stages.compile` runs the stage; its input is in the environment (docs/contract.md)."""

from atoll_contract.stage import Stage
from atoll_stages.compile.stage import compile_model
from atoll_stages.runtime.entry import run_stage

if __name__ == "__main__":
    raise SystemExit(run_stage(Stage.COMPILE, compile_model))
