"""Pictures per second of one whole training step: Atoll beside the PyTorch detectors that users would pick.

`python tests/bench/peers.py [--side 320] [--batch 8] [--seconds 20] [--venv FOLDER]`

One thread each, one after the other, each in a process of its own, on the same noise with 10 boxes a picture. A step is
all that a training does with a batch that is in memory: forward, losses with matching, backward, optimizer and, where
the detector's own trainer has one, the moving average. Atoll's also augments the pictures.

The peers live in an environment of the bench's own, which it makes once (PyTorch, torchvision, ultralytics: about 5 GB
where the index has only builds with CUDA; `--packages` names others). Ultralytics is under AGPL-3.0 and is no
dependency of Atoll. Without the environment and without `--install` only Atoll is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "atoll-test"
PACKAGES = ("torch", "torchvision", "ultralytics", "opencv-python-headless")
CLASSES, OBJECTS, WARM_UP = 3, 10, 2
ATOLL = ("atoll-1.0", "atoll-1.0-frozen", "atoll-0.5")
PEERS = ("yolo11n", "yolov8n", "ssdlite")
REFERENCE = "yolo11n"


@dataclass(frozen=True)
class Row:
    """One line of the table; CPU seconds count, so that other work on the machine does little."""

    name: str
    parameters: int
    images_per_cpu_second: float


def timed(step: Callable[[], object], *, batch: int, seconds: float) -> float:
    """Pictures per CPU second of `step`, after its first calls."""
    for _ in range(WARM_UP):
        step()
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds or count < WARM_UP:
        step()
        count += 1
    return count * batch / (time.process_time() - cpu)


def atoll(name: str, *, side: int, batch: int, seconds: float) -> Row:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from atoll_contract.train_spec import Architecture
    from atoll_stages.train.benchmark import noise_batch
    from atoll_stages.train.trainer import Trainer, TrainerSettings

    width = float(name.split("-")[1])
    frozen = 3 if name.endswith("frozen") else 0
    trainer = Trainer(
        TrainerSettings(Architecture.FPNLITE_320, width, CLASSES, seed=0, side=side, frozen_blocks=frozen)
    )
    made = noise_batch(side=int(side * 1.5), batch_size=batch, classes=CLASSES)
    rate = timed(lambda: trainer.train_step(made, step=1, learning_rate=1e-4, side=side), batch=batch, seconds=seconds)
    text = f"Atoll, width {width:g}" + (f", {frozen} blocks frozen" if frozen else "")
    return Row(text, trainer.model.count_params(), rate)


def boxes_of(batch: int, torch: Any) -> Any:
    """(batch, objects, 4) of left, top, right, bottom from 0 to 1."""
    corner = torch.rand(batch, OBJECTS, 2) * 0.7
    return torch.cat([corner, corner + 0.05 + torch.rand(batch, OBJECTS, 2) * 0.25], dim=-1)


def yolo(name: str, *, side: int, batch: int, seconds: float) -> Row:
    """Ultralytics' model, loss, optimizer and moving average, without its data loading."""
    torch, tasks = import_module("torch"), import_module("ultralytics.nn.tasks")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = tasks.DetectionModel(f"{name}.yaml", nc=CLASSES, verbose=False)
    model.args = import_module("ultralytics.cfg").get_cfg()
    model.train()
    average = import_module("ultralytics.utils.torch_utils").ModelEMA(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    boxes = boxes_of(batch, torch)
    centred = torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)
    given = {
        "img": torch.rand(batch, 3, side, side),
        "batch_idx": torch.arange(batch).repeat_interleave(OBJECTS).float(),
        "cls": torch.randint(0, CLASSES, (batch * OBJECTS, 1)).float(),
        "bboxes": centred.reshape(-1, 4),
    }

    def step() -> None:
        optimizer.zero_grad()
        loss, _ = model(given)
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        optimizer.step()
        average.update(model)

    rate = timed(step, batch=batch, seconds=seconds)
    return Row(f"{name} (ultralytics)", sum(p.numel() for p in model.parameters()), rate)


def ssdlite(*, side: int, batch: int, seconds: float) -> Row:
    torch, detection = import_module("torch"), import_module("torchvision.models.detection")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES + 1)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    images = [torch.rand(3, side, side) for _ in range(batch)]
    targets = [
        {"boxes": boxes * side, "labels": torch.randint(1, CLASSES + 1, (OBJECTS,))} for boxes in boxes_of(batch, torch)
    ]

    def step() -> None:
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()

    rate = timed(step, batch=batch, seconds=seconds)
    return Row("SSDLite320 MobileNetV3 (torchvision)", sum(p.numel() for p in model.parameters()), rate)


def candidate(name: str, *, side: int, batch: int, seconds: float) -> Row:
    if name in ATOLL:
        return atoll(name, side=side, batch=batch, seconds=seconds)
    if name == "ssdlite":
        return ssdlite(side=side, batch=batch, seconds=seconds)
    return yolo(name, side=side, batch=batch, seconds=seconds)


def install(venv: Path, packages: list[str]) -> None:
    """Makes the environment of the peers. Packages come from the index that pip is set up for."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir", *packages]
    subprocess.run(command, check=True)


def measured(python: str, name: str, sizes: list[str]) -> Row:
    """Runs a candidate in a process of its own, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [python, __file__, *sizes, "--candidate", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--venv", type=Path, default=CACHE / "peers-venv")
    parser.add_argument("--install", action="store_true", help="make the environment of the peers where there is none")
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="what to install, as torch==2.4.1")
    parser.add_argument("--candidate", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.candidate:
        row = candidate(given.candidate, side=given.side, batch=given.batch, seconds=given.seconds)
        sys.stdout.write("\n" + json.dumps(asdict(row)) + "\n")
        return
    python = given.venv / "bin" / "python"
    if given.install and not python.exists():
        install(given.venv, list(given.packages))
    sizes = ["--side", str(given.side), "--batch", str(given.batch), "--seconds", str(given.seconds)]
    rows = {name: measured(sys.executable, name, sizes) for name in ATOLL}
    if python.exists():
        rows |= {name: measured(str(python), name, sizes) for name in PEERS}
    else:
        print(f"there is no {python}: only Atoll is measured (--install makes it)", file=sys.stderr)
    base = rows.get(REFERENCE)
    print(f"whole training step, {given.side} px, batch {given.batch}, one thread, pictures per CPU second")
    print(f"| {'training step':38} | {'parameters':>10} | {'pictures/s':>10} | {'ratio':>6} |")
    print(f"|{'-' * 40}|{'-' * 11}:|{'-' * 11}:|{'-' * 7}:|")
    for row in rows.values():
        ratio = f"{row.images_per_cpu_second / base.images_per_cpu_second:.2f}" if base else "–"
        print(f"| {row.name:38} | {row.parameters:>10,} | {row.images_per_cpu_second:>10.1f} | {ratio:>6} |")


if __name__ == "__main__":
    main()
