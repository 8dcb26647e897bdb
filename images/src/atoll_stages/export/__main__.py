"""`python -m atoll_stages.export`: the stage, its input in the environment (docs/contract.md)."""

from atoll_contract.stage import Stage
from atoll_stages.runtime.entry import StageContext, StageOutcome, run_stage


def _export(context: StageContext) -> StageOutcome:
    from atoll_stages.train.devices import quiet_tensorflow

    quiet_tensorflow()
    from atoll_stages.export.stage import export

    return export(context)


if __name__ == "__main__":
    raise SystemExit(run_stage(Stage.EXPORT, _export))
