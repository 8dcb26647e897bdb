"""`atoll run` with the real stages, killed again and again: the same release and the same weights as undisturbed.

    python -P -m pytest -m e2e tests/e2e/test_local_kills.py -s

By hand: it trains twice. `ATOLL_KILLS` is the number of kills, `ATOLL_KILL_SEED` chooses their moments.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.polling import wait_until

KILLS = int(os.environ.get("ATOLL_KILLS", "10"))
# Between two kills; a machine that is busy needs more for the moments to lie in every stage.
LONGEST = float(os.environ.get("ATOLL_KILL_SECONDS", "100"))
SEED = int(os.environ.get("ATOLL_KILL_SEED", "1"))
RUN = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: { name: field }
spec:
  datasets: [{ key: datasets/local/field.tar }]
  model: { architecture: ssd-mobilenet-v2-fpnlite-192, width: "0.35" }
  training:
    initFrom: { type: random }
    steps: 40
    batchSize: 8
    checkpointEverySteps: 5
    evalEverySteps: 20
  publish: { model: field }
"""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(7200)]


class LocalRun:
    """`atoll run` in a folder of its own, as often as it takes."""

    def __init__(self, folder: Path, sample: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.sample = folder, sample
        (folder / "run.yaml").write_text(RUN)

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", "atoll_cli.main", "run", "-f", "run.yaml"]
        environ = {**os.environ, "ATOLL_TEST_MARK": str(self.folder)}
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                [*command, "--data", str(self.sample)], cwd=self.folder, env=environ, stdout=output, stderr=output
            )

    def finish(self) -> dict[str, Any]:
        """To the end; see `published`."""
        process = self.start()
        assert process.wait(timeout=3000) == 0, (self.folder / "output").read_text()
        return self.published()

    def published(self) -> dict[str, Any]:
        """The release, every version there is, and the digests of data set, weights and model."""
        store = self.folder / "atoll-store"
        record = json.loads((store / ".atoll/engine/local/field/run.json").read_text())
        status = record["status"]
        outputs = {
            stage["name"]: {out["name"]: out["sha256"] for out in stage.get("outputs", [])}
            for stage in status["stages"]
        }
        return {
            "release": status["release"]["name"],
            "versions": sorted(path.name for path in (store / "models/local/field").glob("v*")),
            "weights": outputs["train"]["weights"],
            # Of its content; dataset.json itself also names the ETag that the archive has in this store.
            "dataset": status["dataset"]["digest"],
            "model": outputs["export"]["model"],
        }

    def processes(self) -> list[int]:
        """Every living process that this run started."""
        mark = b"ATOLL_TEST_MARK=" + str(self.folder).encode() + b"\0"
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
                if state not in "ZX" and mark in (entry / "environ").read_bytes() + b"\0":
                    found.append(int(entry.name))
        return found


def kill_at_a_random_moment(run: LocalRun, rng: random.Random, longest: float) -> str:
    """Start the command; after a while kill the engine, or one process of its stage. Says what was killed."""
    engine = run.start()
    pause = rng.uniform(1.0, longest)
    with suppress(subprocess.TimeoutExpired):
        engine.wait(timeout=pause)
        return "nothing: it had ended"
    stages = [pid for pid in run.processes() if pid != engine.pid]
    victim = engine.pid if not stages or rng.random() < 0.5 else rng.choice(stages)
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    what = "the engine" if victim == engine.pid else "a stage's process"
    if victim != engine.pid:
        # The engine lives: let it see the end of its stage before it is killed too.
        with suppress(subprocess.TimeoutExpired):
            engine.wait(timeout=rng.uniform(1.0, 10.0))
        engine.kill()
    engine.wait(timeout=60)
    return f"{what} after {pause:.1f} s"


def test_kills_change_nothing(sample_archive: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    expected = LocalRun(tmp_path / "undisturbed", sample_archive).finish()
    lasted = time.monotonic() - began
    print(f"undisturbed: {lasted:.0f} s, {expected}")
    disturbed = LocalRun(tmp_path / "disturbed", sample_archive)
    rng = random.Random(SEED)
    for number in range(1, KILLS + 1):
        print(f"kill {number}: {kill_at_a_random_moment(disturbed, rng, min(lasted * 0.6, LONGEST))}", flush=True)
    found = disturbed.finish()
    print(f"disturbed: {found}")
    assert found == expected
    assert found["versions"] == ["v1"]
    wait_until(lambda: not disturbed.processes(), what="the end of every process", timeout_seconds=60)
