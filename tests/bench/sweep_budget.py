"""What pruning saves: a sweep on the rendered sample against the same sweep without pruning.

    python tests/bench/sweep_budget.py [--trials 12] [--steps 900] [--pruned-only] [--folder DIR]

Both sweeps have the same seed, so their first trials have the same settings. Required: at most half of the steps, and a
winner within one point of AP50 (validation split) of the full sweep's. Twelve trials of 900 steps take hours on a CPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SWEEP = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingSweep
metadata: {{ name: {pruning} }}
spec:
  template:
    spec:
      datasets: [{{ key: datasets/local/field.tar }}]
      model: {{ architecture: ssd-mobilenet-v2-fpnlite-192, width: "0.35" }}
      training: {{ initFrom: {{ type: random }}, steps: {steps}, batchSize: 8, evalEverySteps: {every} }}
      publish: {{ model: {pruning} }}
  parameters: [{{ name: learningRate, min: "0.0005", max: "0.03", scale: log }}]
  trials: {trials}
  pruning: {pruning}
"""


def sweep(folder: Path, pruning: str, *, trials: int, steps: int) -> dict[str, Any]:
    """The document of `atoll sweep -o json`."""
    file = folder / f"{pruning}.yaml"
    # An evaluation falls on each step after which a trial may be ended.
    file.write_text(SWEEP.format(pruning=pruning, trials=trials, steps=steps, every=max(1, steps // 9)))
    archive, store = folder / "sample/field.tar", folder / "store"
    command = ["sweep", "-f", str(file), "--data", str(archive), "--store", str(store), "-o", "json"]
    done = subprocess.run([sys.executable, "-P", "-m", "atoll_cli", *command], stdout=subprocess.PIPE, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def report(name: str, document: dict[str, Any]) -> None:
    print(f"{name}: {document['phase']}: {document['message']}")
    for trial in document["trials"]:
        print(
            f"  {trial['run']} {trial['state']} {trial['parameters']} AP50 {trial['ap50']} after {trial['steps']} steps"
        )
    print(f"  {document['steps']['done']} of {document['steps']['full']} steps")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument(
        "--pruned-only", action="store_true", help="leave the full sweep out, and the winners' comparison"
    )
    parser.add_argument("--folder", type=Path, help="keep the stores here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        command = [sys.executable, "-P", "-m", "atoll_cli", "sample", "field", "--to", str(folder / "sample")]
        if not (folder / "sample").exists():
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        sizes = {"trials": arguments.trials, "steps": arguments.steps}
        pruned = sweep(folder, "asha", **sizes)
        report("pruned", pruned)
        share = pruned["steps"]["done"] / pruned["steps"]["full"]
        kept = True
        if not arguments.pruned_only:
            full = sweep(folder, "none", **sizes)
            report("full", full)
            kept = pruned["best"]["ap50"] >= full["best"]["ap50"] - 0.01
            print(f"best: {pruned['best']['ap50']} against {full['best']['ap50']}")
    print(f"steps: {share:.0%} of the full budget (at most 50%)")
    return 0 if share <= 0.5 and kept else 1


if __name__ == "__main__":
    sys.exit(main())
