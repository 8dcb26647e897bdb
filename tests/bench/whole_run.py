"""CPU seconds of whole short trainings on the same pictures: Atoll beside Ultralytics.

    python tests/bench/whole_run.py --weights WEIGHTS.h5 [--pictures 320 1280] [--peer PYTHON]

Each runs on one processor with its own defaults at 320 pixels and batch 8, as its documentation says: from the
start of its program to the exported model. `atoll run` converts, trains, chooses the best step, exports to int8 and
measures that file. Ultralytics reads the pictures, trains YOLO11n with a validation after each epoch, and exports to
TorchScript. Two numbers of pictures tell what a run costs in any case from what each picture costs.

PYTHON has Ultralytics: `peers.py --install` makes it. Without one only Atoll is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.archives import packed, write_files
from support.drawn_photographs import photograph

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "atoll-test"
TRAIN, VALIDATION, BATCH = 160, 40, 8
SIDE = 640
RUN = """apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: {{ name: bench }}
spec:
  datasets: [{{ key: datasets/local/bench.tar }}]
  model: {{ architecture: ssd-mobilenet-v2-fpnlite-320, width: "1.0" }}
  training: {{ initFrom: {{ type: imagenet }}, steps: {steps}, batchSize: 8 }}
  publish: {{ model: bench }}
"""
PEER = """
from ultralytics import YOLO
model = YOLO("yolo11n.yaml")
model.train(data="data.yaml", epochs={epochs}, imgsz=320, batch=8, device="cpu", workers=0, plots=False, exist_ok=True)
model.export(format="torchscript", imgsz=320)
"""


def pictures() -> dict[str, bytes]:
    """Pictures of noise with boxes, as YOLO lays them out."""
    files = {"data.yaml": b"train: images/train\nval: images/val\nnc: 2\nnames: ['note', 'robot']\n"}
    for number in range(TRAIN + VALIDATION):
        part = "train" if number < TRAIN else "val"
        lines = [f"{(number + n) % 2} {0.15 + 0.08 * n} {0.3 + 0.05 * n} 0.1 0.14\n" for n in range(8)]
        files[f"images/{part}/p{number}.jpg"] = photograph(number, SIDE)
        files[f"labels/{part}/p{number}.txt"] = "".join(lines).encode()
    return files


def cpu_seconds(command: Sequence[str], folder: Path) -> float:
    """The processor time of a command and all that it starts, on one processor."""
    before = os.times()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "false"}
    with (folder / "log").open("w") as log:
        done = subprocess.run(
            ["taskset", "--cpu-list", "0", *command], cwd=folder, env=environment, stdout=log, stderr=log, check=False
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {(folder / 'log').read_text()[-2000:]}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def atoll(count: int, files: dict[str, bytes], folder: Path, weights: Path) -> float:
    (folder / "bench.tar").write_bytes(packed(files, ".tar"))
    (folder / "run.yaml").write_text(RUN.format(steps=count // BATCH))
    command = ["run", "-f", "run.yaml", "--data", "bench.tar", "--weights", str(weights), "--store", "store"]
    return cpu_seconds([str(Path(sys.executable).with_name("atoll")), *command], folder)


def peer(count: int, files: dict[str, bytes], folder: Path, python: Path) -> float:
    write_files({**files, "data.yaml": f"path: {folder}\n".encode() + files["data.yaml"]}, folder)
    return cpu_seconds([str(python), "-c", PEER.format(epochs=count // TRAIN)], folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--pictures", type=int, nargs="+", default=[2 * TRAIN, 8 * TRAIN])
    parser.add_argument("--peer", type=Path, default=CACHE / "peers-venv" / "bin" / "python")
    given = parser.parse_args()
    files, weights = pictures(), given.weights.resolve()
    runs: dict[str, Callable[[int, Path], float]] = {"atoll run": lambda count, at: atoll(count, files, at, weights)}
    if given.peer.exists():
        runs["yolo11n (ultralytics)"] = lambda count, at: peer(count, files, at, given.peer)
    print("| whole run | pictures | CPU s |\n|---|---:|---:|", flush=True)
    for count in given.pictures:
        for name, run in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                print(f"| {name} | {count:,} | {run(count, Path(folder)):.0f} |", flush=True)


if __name__ == "__main__":
    main()
