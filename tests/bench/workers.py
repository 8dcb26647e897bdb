"""How much faster two workers train than one: `python tests/bench/workers.py [--width 1.0] [--side 320] [--batch 32]`.

Each worker has a core of its own, the single one as well, and all train on noise. The workers talk over loopback, so
that the bytes of a step are those of a network and its waiting is not. It prints one row for each number of workers.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from atoll_contract.train_spec import Accelerator, Architecture
from atoll_stages.train.benchmark import noise_batch
from atoll_stages.train.devices import find_devices, quiet_tensorflow
from atoll_stages.train.trainer import Trainer, TrainerSettings
from atoll_stages.train.workers import Workers

CLASSES = 3
TRACED, TIMED = 2, 8
PORTS = (2322, 2323)
ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.worker is not None:
        print(json.dumps(_train(options)))
        return 0
    print("| workers | images/s | median step, ms | bytes on the wire a step |\n|---:|---:|---:|---:|", flush=True)
    for count in (1, 2):
        rows = _run(arguments, count)
        seconds, sent = rows[0]["seconds"], sum(row["sent"] for row in rows)
        print(f"| {count} | {options.batch / seconds:.1f} | {seconds * 1000:.0f} | {sent:.0f} |", flush=True)
    return 0


def _run(arguments: Sequence[str], count: int) -> list[dict[str, float]]:
    """What the workers measured, each of them in a process on a core of its own."""
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environ |= {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    own = [sys.executable, __file__, *arguments, "--count", str(count), "--worker"]
    workers = [
        subprocess.Popen([*own, str(index)], env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for index in range(count)
    ]
    try:
        outputs = [worker.communicate()[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def _train(options: argparse.Namespace) -> dict[str, float]:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[options.worker % len(cores)]})
    quiet_tensorflow()
    addresses = tuple(f"127.0.0.1:{port}" for port in PORTS[: options.count]) if options.count > 1 else ()
    workers = Workers(addresses, options.worker)
    devices = find_devices(Accelerator.CPU, workers)
    settings = TrainerSettings(Architecture.FPNLITE_320, options.width, CLASSES, seed=0, side=options.side)
    trainer = Trainer(settings, devices.strategy, workers)
    batch = noise_batch(side=options.side, batch_size=options.batch // options.count, classes=CLASSES)
    seconds, before = [], 0
    for step in range(TRACED + TIMED):
        if step == TRACED:
            before = _bytes_sent()
        begun = time.perf_counter()
        trainer.train_step(batch, step=step, learning_rate=1e-4, side=options.side)
        seconds.append(time.perf_counter() - begun)
    return {"seconds": statistics.median(seconds[TRACED:]), "sent": (_bytes_sent() - before) / TIMED}


def _bytes_sent() -> int:
    """What this process has sent on connections with a worker's port, as the kernel counts it."""
    listed = subprocess.run(["ss", "-tinpH"], capture_output=True, text=True, check=True).stdout
    total = 0
    for entry in re.split(r"\n(?=\S)", listed):
        is_own = f"pid={os.getpid()}," in entry and any(f":{port}" in entry for port in PORTS)
        sent = re.search(r"bytes_sent:(\d+)", entry)
        total += int(sent[1]) if is_own and sent else 0
    return total


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--batch", type=int, default=32, help="images of all workers together")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
