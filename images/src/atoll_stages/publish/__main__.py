"""`python -m atoll_stages.publish` runs the stage; its input is in the environment (docs/contract.md)."""

from atoll_contract.stage import Stage
from atoll_stages.publish.stage import publish
from atoll_stages.runtime.entry import run_stage

if __name__ == "__main__":
    raise SystemExit(run_stage(Stage.PUBLISH, publish))
