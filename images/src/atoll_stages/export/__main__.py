"""`python -m atoll_stages.export` runs the stage; its input is in the environment (docs/contract.md)."""

from atoll_contract.stage import Stage
from atoll_stages.runtime.entry import StageContext, StageOutcome, run_stage
from atoll_stages.train.devices import quiet_tensorflow


def _export(context: StageContext) -> StageOutcome:
    quiet_tensorflow()
    from atoll_stages.export.stage import export

    return export(context)


if __name__ == "__main__":
    raise SystemExit(run_stage(Stage.EXPORT, _export))
