"""Is the second model better for what the device harvested? `python tests/bench/harvest_loop.py [ARCHIVE.tar] -o DIR`

For each seed: a first model is trained on half of the training pictures; the real edge agent, with the other half as
its camera, keeps and uploads what that model is unsure of; `atoll harvest` takes the most doubtful share of them; they
get the labels that the archive has for them; and a second run starts from the first release with both archives. Beside
it run, with the same number of steps from the same release: as many pictures picked at random, and no new pictures at
all (what training longer does by itself). The table has the int8 model's AP50 on the archive's `test` part (`val` where
it has none). Run by hand: it trains four times for each seed. What is done stays in DIR; the same command goes on from
there.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from atoll_edge.demo import free_ports
from support.polling import wait_until

MODEL = "first"
ARMS = ("again", "random", "harvested")
DEVICE = "bench"
# Slower than uploads go. Of so many pictures one is kept; the others come again in the next pass.
FPS = 2
PICTURES_PER_INTERVAL = 3
PASSES = 2
TRAIN = "train"


@dataclass(frozen=True)
class Labelled:
    """One picture of a Supervisely archive, with its annotation as it stands there."""

    part: str
    name: str
    picture: bytes
    annotation: bytes


@dataclass(frozen=True)
class Settings:
    """What one seed's runs have in common."""

    out: Path
    seed: int
    share: float
    first_steps: int
    more_steps: int

    @property
    def folder(self) -> Path:
        return self.out / f"seed-{self.seed}"

    @property
    def store(self) -> Path:
        return self.folder / "store"


def read_archive(path: Path) -> tuple[list[Labelled], bytes]:
    """The pictures of `<project>/<part>/{img,ann}/`, in name order, and meta.json."""
    with tarfile.open(path) as archive:
        files = {
            member.name: read.read() for member in archive if member.isfile() and (read := archive.extractfile(member))
        }
    meta = next(data for name, data in files.items() if name.endswith("/meta.json"))
    found = []
    for name, data in sorted(files.items()):
        *_, part, kind, base = ("", "", *name.split("/"))
        if kind == "img":
            annotation = files[name.replace("/img/", "/ann/") + ".json"]
            found.append(Labelled(part, base, data, annotation))
    return found, meta


def write_archive(path: Path, items: Iterable[Labelled], meta: bytes) -> None:
    """The same bytes for the same pictures: a run knows its data by their digest."""
    project = path.stem
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with tarfile.open(partial, "w") as archive:
        for name, data in [
            (f"{project}/meta.json", meta),
            *(
                (f"{project}/{item.part}/{kind}/{item.name}{end}", data)
                for item in items
                for kind, end, data in (("img", "", item.picture), ("ann", ".json", item.annotation))
            ),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    partial.replace(path)


def halves(items: Sequence[Labelled], seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """The training pictures, dealt in two."""
    train = sorted((item for item in items if item.part == TRAIN), key=lambda item: item.name)
    random.Random(seed).shuffle(train)
    middle = len(train) // 2
    return train[:middle], train[middle:]


def trained(settings: Settings, name: str, archives: Sequence[Path], *, first: bool) -> float:
    """AP50 (int8) of a run on these archives; one that has ended is only read."""
    spec = {
        "datasets": [{"key": f"datasets/local/{path.name}"} for path in archives],
        "model": {"architecture": "ssd-mobilenet-v2-fpnlite-192", "width": "0.35"},
        "training": {
            "initFrom": {"type": "random"} if first else {"type": "release", "releaseRef": {"name": f"{MODEL}-v1"}},
            "steps": settings.first_steps if first else settings.more_steps,
            "batchSize": 8,
            "seed": settings.seed,
            "accelerator": "cpu",
        },
        "publish": {"model": name},
    }
    document = {"apiVersion": "atoll.dev/v1alpha1", "kind": "TrainingRun", "metadata": {"name": name}, "spec": spec}
    file = settings.folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    data = [argument for path in archives for argument in ("--data", str(path))]
    answer = atoll("run", "-f", str(file), *data, "--store", str(settings.store), "-o", "json")
    ap50 = float(json.loads(answer)["metrics"]["int8"]["ap50"])
    print(f"seed {settings.seed}: {name}: AP50 {ap50:.3f}", flush=True)
    return ap50


def atoll(*arguments: str) -> str:
    """What the command line prints."""
    command = [sys.executable, "-P", "-m", "atoll_cli.main", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=4 * 3600, check=False)
    if done.returncode:
        raise SystemExit(f"atoll {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def harvested(settings: Settings, other: Sequence[Labelled]) -> list[Labelled]:
    """What the edge and `atoll harvest` choose of `other`, with the labels that these have."""
    batch = settings.folder / "batch"
    if not (batch / "harvest.json").is_file():
        run_edge(settings, other)
        limit = str(round(settings.share * len(other)))
        where = ("--store", str(settings.store))
        print(atoll("harvest", MODEL, *where, "--to", str(batch), "--limit", limit), flush=True)
    known = np.stack([small(item.picture) for item in other])
    found = []
    for path in sorted(batch.glob("harvest-*/*/img/*.jpg")):
        # The person who labels knows the picture by looking at it.
        distances = np.abs(known - small(path.read_bytes())).mean(axis=(1, 2, 3))
        nearest, second = np.argsort(distances)[:2]
        assert distances[nearest] < 2 < distances[second], path
        source = other[int(nearest)]
        found.append(Labelled(DEVICE, path.name, path.read_bytes(), source.annotation))
    return found


def small(picture: bytes) -> np.ndarray[Any, Any]:
    """The picture as 64 × 48 pixels BGR."""
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    shrunk: np.ndarray[Any, Any] = cv2.resize(decoded, (64, 48), interpolation=cv2.INTER_AREA)
    return shrunk.astype(np.float32)


def run_edge(settings: Settings, other: Sequence[Labelled]) -> None:
    """The agent as on a device, until every picture came `PASSES` times with the model in service."""
    pictures = settings.folder / "camera"
    pictures.mkdir(exist_ok=True)
    for item in other:
        (pictures / item.name).write_bytes(item.picture)
    http, tables = free_ports(2)
    config = {
        "device": DEVICE,
        "ntServer": f"127.0.0.1:{tables}",
        "stateDir": str(settings.folder / "device"),
        "camera": {"name": "pictures", "path": str(pictures), "fps": FPS},
        "streams": {"enabled": False},
        "http": {"port": http},
        "model": {
            "namespace": "local",
            "name": MODEL,
            "store": {"type": "directory", "path": str(settings.store)},
            "verify": "digest-only",
        },
        "harvest": {"enabled": True, "intervalSeconds": PICTURES_PER_INTERVAL / FPS, "minFreeMebibytes": 0},
    }
    file = settings.folder / "edge.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-P", "-m", "atoll_edge.cli", "run", "--config", str(file)]
    with (settings.folder / "edge.log").open("wb") as log, subprocess.Popen(command, stderr=log, stdout=log) as edge:
        try:
            watch_edge(http, passes=PASSES, pictures=len(other))
        finally:
            edge.terminate()
            edge.wait(timeout=30)


def watch_edge(http: int, *, passes: int, pictures: int) -> None:
    def status() -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http}/status", timeout=5) as answer:
                read: dict[str, Any] = json.load(answer)
        except OSError:
            return None
        return read if read["model"]["state"] == "Active" else None

    first = wait_until(status, what="the model in service", timeout_seconds=600, interval_seconds=1)
    last = first["camera"]["frames"] + passes * pictures

    def done() -> dict[str, Any] | None:
        read = status()
        over = read is not None and read["camera"]["frames"] > last and read["harvest"]["waiting"] == 0
        return read if over else None

    told = wait_until(done, what="all uploads", timeout_seconds=1800, interval_seconds=1)
    print(f"edge: {json.dumps(told['harvest'])}", flush=True)


def one_seed(settings: Settings, items: Sequence[Labelled], meta: bytes) -> dict[str, float]:
    """AP50 by arm, and how many pictures each got."""
    first, other = halves(items, settings.seed)
    base = settings.folder / "first.tar"
    write_archive(base, [*first, *(item for item in items if item.part != TRAIN)], meta)
    figures = {MODEL: trained(settings, MODEL, [base], first=True)}
    chosen = harvested(settings, other)
    picked = random.Random(settings.seed + 1).sample(list(other), len(chosen))
    archives = {}
    for name, more in (("harvested", chosen), ("random", picked)):
        archives[name] = settings.folder / f"{name}.tar"
        write_archive(archives[name], [Labelled(DEVICE, i.name, i.picture, i.annotation) for i in more], meta)
    for arm in ARMS:
        data = [base, archives[arm]] if arm in archives else [base]
        figures[arm] = trained(settings, arm, data, first=False)
    counts = {"trained": len(first), "other": len(other), "new": len(chosen)}
    return {**figures, **counts, "newBoxes": boxes(chosen), "randomBoxes": boxes(picked)}


def boxes(items: Sequence[Labelled]) -> int:
    return sum(len(json.loads(item.annotation)["objects"]) for item in items)


def table(rows: dict[int, dict[str, float]]) -> str:
    """The result as Markdown."""
    arms = (MODEL, *ARMS)
    heads = ("seed", "first model", "trained on, no new pictures", "+ at random", "+ harvested")
    lines = [f"| {' | '.join(heads)} | boxes at random / harvested |", "|---:|---:|---:|---:|---:|---:|"]
    for seed, row in rows.items():
        figures = " | ".join(f"{row[arm]:.3f}" for arm in arms)
        lines.append(f"| {seed} | {figures} | {row['randomBoxes']:.0f} / {row['newBoxes']:.0f} |")
    means = " | ".join(f"{statistics.mean(row[arm] for row in rows.values()):.3f}" for arm in arms)
    lines.append(f"| mean | {means} | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.3, help="of the other half that is harvested")
    parser.add_argument("--first-steps", type=int, default=700)
    parser.add_argument("--more-steps", type=int, default=300)
    given = parser.parse_args()
    items, meta = read_archive(given.archive)
    rows = {}
    for seed in range(given.seeds):
        settings = Settings(given.output.resolve(), seed, given.share, given.first_steps, given.more_steps)
        rows[seed] = one_seed(settings, items, meta)
    row = rows[0]
    print(
        f"\n{given.archive.name}: {row['trained']:.0f} pictures, then {row['new']:.0f} of {row['other']:.0f} others; "
        f"{given.first_steps} steps, then {given.more_steps}; {os.cpu_count()} CPUs\n\n{table(rows)}"
    )
    result = {str(seed): row for seed, row in rows.items()}
    (given.output / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
