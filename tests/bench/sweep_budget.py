"""What pruning saves, and what it loses: a pruned sweep over a grid of settings, against the whole grid.

    python tests/bench/sweep_budget.py [--steps 900] [--full N] [--folder DIR]

The sweep tries all twelve points of a grid and ends early what falls behind. Then each trial that it ended is trained
to the end by itself, the most promising first: so both know the same twelve settings, and a difference between their
best is pruning's alone. A trial that the sweep trained to the end is its own full training. Required: at most half of
the steps, and a winner within one point of AP50 (validation split) of the best of all. `--full` stops after so many.

The same command with the same `--folder` goes on where an earlier one was stopped; `results.json` in it has what is
known so far. Twelve trials of 900 steps take hours on a CPU.
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
metadata: {{ name: {name} }}
spec:
  template:
    spec:
      datasets: [{{ key: datasets/local/field.tar }}]
      model: {{ architecture: ssd-mobilenet-v2-fpnlite-192, width: "0.35" }}
      training: {{ initFrom: {{ type: random }}, steps: {steps}, batchSize: 8, evalEverySteps: {every} }}
      publish: {{ model: {name} }}
  parameters: {parameters}
  algorithm: grid
  pruning: {pruning}
"""
GRID = {
    "learningRate": ("0.0005", "0.001", "0.002", "0.005", "0.01", "0.02"),
    "augment-horizontal-flip": ("true", "false"),
}


class Bench:
    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        self.steps = steps
        self.results: dict[str, Any] = {}

    def sweep(self, name: str, pruning: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The document of `atoll sweep -o json`."""
        file = self.folder / f"{name}.yaml"
        # Fine enough to see how the order of the trials changes; both rungs are such points.
        every = max(1, self.steps // 12)
        listed = json.dumps([{"name": key, "values": list(values)} for key, values in parameters.items()])
        file.write_text(SWEEP.format(name=name, pruning=pruning, steps=self.steps, every=every, parameters=listed))
        archive, store = self.folder / "sample/field.tar", self.folder / "store"
        command = ["sweep", "-f", str(file), "--data", str(archive), "--store", str(store), "-o", "json"]
        done = subprocess.run([sys.executable, "-P", "-m", "atoll_cli", *command], stdout=subprocess.PIPE, check=False)
        document: dict[str, Any] = json.loads(done.stdout)
        if document["phase"] == "Suspended":
            sys.exit("suspended; the same command goes on")
        self.results[name] = document
        (self.folder / "results.json").write_text(json.dumps(self.results, indent=2))
        return document

    def full(self, trial: dict[str, Any]) -> float:
        """The AP50 that the settings of a pruned trial reach when they are trained to the end."""
        settings = {key: (value,) for key, value in trial["parameters"].items()}
        document = self.sweep(trial["run"].replace("pruned", "full"), "none", settings)
        report(document["trials"][0])
        return float(document["trials"][0]["ap50"])


def report(trial: dict[str, Any]) -> None:
    settings = ", ".join(f"{key} {value}" for key, value in trial["parameters"].items())
    print(
        f"{trial['run']}: {trial['state']}, {settings}: AP50 {trial['ap50']} after {trial['steps']} steps", flush=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--full", type=int, help="how many of the pruned trials are trained to the end; all without it")
    parser.add_argument("--folder", type=Path, help="keep the results here, and go on with them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        command = [sys.executable, "-P", "-m", "atoll_cli", "sample", "field", "--to", str(folder / "sample")]
        if not (folder / "sample").exists():
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        bench = Bench(folder, arguments.steps)
        pruned = bench.sweep("pruned", "halving", GRID)
        for trial in pruned["trials"]:
            report(trial)
        share = pruned["steps"]["done"] / pruned["steps"]["full"]
        print(f"steps: {share:.0%} of the full budget (at most 50%)", flush=True)
        winner = float(pruned["best"]["ap50"])
        ended = [trial for trial in pruned["trials"] if trial["state"] == "Pruned"]
        ended.sort(key=lambda trial: -float(trial["ap50"] or 0))
        others = [bench.full(trial) for trial in ended[: arguments.full]]
    best = max([winner, *others])
    print(f"best: {winner:.3f}; of the grid ({len(ended) - len(others)} trials left out): {best:.3f}")
    return 0 if share <= 0.5 and winner >= best - 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
