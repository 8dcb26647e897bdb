"""What the embedded engine costs: a run of five stages without work, against the same five processes plainly started.

    python tests/bench/engine_overhead.py [--rounds 5] [--json]

Both sides start the same programs with the same inputs, one after the other, on an empty folder store of their own.
The plain side waits for each and looks at its exit code. The engine also decides, records every step durably,
follows progress, reserves a version and fetches the results.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from atoll_cli.local.launch import launch
from atoll_contract.document import replace
from atoll_contract.keys import RunRef
from atoll_contract.stage import ENV_POD_UID, ENV_TERMINATION_LOG, ENV_WORK_DIR, PublishSpec, Stage, StageInput
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_operator.api.status import Phase
from support.noop_run import NoopRun, noop_command


def engine(folder: Path) -> None:
    """One run by the engine; compile is there too, as if a compiler were installed."""
    run = NoopRun(folder)
    request = run.request()
    images = replace(request.file.profile.images, compile="here")
    file = replace(request.file, profile=replace(request.file.profile, images=images))
    result = launch(replace(request, file=file), observer=run.display, command=noop_command)
    assert result.status.phase is Phase.SUCCEEDED, run.display.lines
    assert all(item.attempts == 1 for item in result.status.stages)


def plain(folder: Path) -> None:
    """The same five processes."""
    run = RunRef("local", "noop", str(uuid.uuid4()))
    store = StoreSpec(StoreType.DIRECTORY, path=str(folder / "store"))
    for stage in Stage:
        publish = PublishSpec("noop", "stable", 1) if stage is Stage.PUBLISH else None
        given = StageInput(stage, 1, run, store, publish=publish)
        work = folder / stage
        work.mkdir()
        environ = {
            **os.environ,
            **given.to_env(),
            ENV_POD_UID: uuid.uuid4().hex,
            ENV_TERMINATION_LOG: str(folder / f"{stage}.json"),
            ENV_WORK_DIR: str(work),
        }
        command = list(noop_command(stage, ()))
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=120)


def seconds(side: Callable[[Path], None]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        side(Path(folder))
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.pop("NOOP_PLAN", None)
    # In turns, so that a busy machine is busy for both; the first of each warms the disk's cache.
    pairs = [(seconds(plain), seconds(engine)) for _ in range(options.rounds + 1)][1:]
    by_hand, by_engine = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(engine_time / plain_time for plain_time, engine_time in pairs)
    rows = [("five processes, plainly", by_hand, 1.0), ("atoll run", by_engine, ratio)]
    if options.json:
        print(json.dumps({"rounds": options.rounds, "plain": by_hand, "engine": by_engine, "ratio": ratio}))
        return
    print(f"{'':<26}{'seconds':>9}{'ratio':>8}    (medians of {options.rounds} rounds)")
    for name, spent, share in rows:
        print(f"{name:<26}{spent:>9.2f}{share:>8.2f}")
    print(f"{'a stage costs more by':<26}{(by_engine - by_hand) / len(Stage):>9.2f} s")


if __name__ == "__main__":
    main()
