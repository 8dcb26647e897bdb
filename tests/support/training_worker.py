"""One worker of a small training: `python -m support.training_worker INDEX PORT,PORT FOLDER`.

All workers go through the same trainings with one traced network, and print what they see as JSON lines: one that
nothing disturbs, one that worker 1 is asked to end and that is resumed, one that stops early, the first and the third
again after their end, and one in which worker 1 dies.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atoll_contract.errors import AtollError
from atoll_contract.stage_result import Progress
from atoll_contract.store.directory import DirStore
from atoll_contract.train_spec import Accelerator, Architecture
from atoll_stages.runtime.context import Interrupted
from atoll_stages.train.checkpoints import CheckpointStore, state_digest
from atoll_stages.train.config import TrainConfig
from atoll_stages.train.dataset import BatchLoader
from atoll_stages.train.devices import find_devices
from atoll_stages.train.history import Point, Progression
from atoll_stages.train.loop import TrainingLoop, follow
from atoll_stages.train.optimizer import ImageSizeSchedule, LearningRateSchedule
from atoll_stages.train.sampling import Sampling
from atoll_stages.train.trainer import Trainer, TrainerSettings
from atoll_stages.train.workers import Workers
from support.detection_data import CLASSES, labelled_images

SIDE, STEPS = 64, 6
CONFIG = TrainConfig(
    trainer=TrainerSettings(Architecture.FPNLITE_192, 0.35, len(CLASSES), seed=3, side=SIDE, ema_decay=0.9),
    learning_rate=LearningRateSchedule(1e-3, STEPS),
    image_size=ImageSizeSchedule(SIDE, STEPS),
    steps=STEPS,
    batch_size=4,
    eval_every=3,
    checkpoint_every=3,
    early_stopping_patience=None,
    fingerprint="f",
)


@dataclass
class Worker:
    """A worker's trainer and store; of the loop's callbacks it keeps what only the first worker is called for."""

    workers: Workers
    folder: Path

    def __post_init__(self) -> None:
        self.asked_to_end = False
        signal.signal(signal.SIGTERM, self._on_signal)
        self.trainer = Trainer(CONFIG.trainer, find_devices(Accelerator.CPU, self.workers).strategy, self.workers)
        self.trainer.average.reset()
        self.initial = [variable.numpy() for variable in self.trainer.state()]
        self.checkpoints = CheckpointStore(DirStore(self.folder / "none"), "c/", "f")
        self.check_stop: Callable[[], None] = lambda: None
        self.stored: list[int] = []

    def train(self, name: str, config: TrainConfig, *, stop_at: int | None = None) -> dict[str, Any]:
        """Goes on with the training `name`; worker 1 is asked to end, or dies, before its step `stop_at`."""
        for variable, value in zip(self.trainer.state(), self.initial, strict=True):
            variable.assign(value)
        self.checkpoints = CheckpointStore(DirStore(self.folder / name), "c/", "f")
        progression = self.checkpoints.restore(self.trainer.state(), work=self.work) or Progression()
        calls = iter(range(10_000))
        self.check_stop = lambda: self._stop(name) if next(calls) == stop_at and self.workers.index == 1 else None
        self.stored.clear()
        end: dict[str, Any] = {"training": name, "from": progression.step}
        rows = self.workers.rows(config.batch_size)
        with BatchLoader(
            labelled_images(6), side=96, batch_size=config.batch_size, sampling=Sampling(3), rows=rows
        ) as loader:
            try:
                end["step"] = self._run(config, loader, progression)
            except AtollError as error:
                end["reason"], end["message"] = str(error.reason), error.message
        return end | {"state": state_digest(self.trainer.state()), "rows": len(rows), "stored": self.stored}

    @property
    def work(self) -> Path:
        folder = self.folder / f"work-{self.workers.index}"
        folder.mkdir(exist_ok=True)
        return folder

    def _run(self, config: TrainConfig, loader: BatchLoader, progression: Progression) -> int | None:
        if not self.workers.is_first:
            follow(
                config=config,
                trainer=self.trainer,
                loader=loader,
                progression=progression,
                on_stored=self.stored.append,
                check_stop=lambda: self.check_stop(),
            )
            return None
        validation = labelled_images(2, first=100)
        loop = TrainingLoop(
            config=config,
            trainer=self.trainer,
            loader=loader,
            validation=validation,
            classes=CLASSES,
            callbacks=_Callbacks(self),
        )
        return loop.run(progression).step

    def _on_signal(self, *_: object) -> None:
        self.asked_to_end = True

    def _stop(self, name: str) -> None:
        if name == "dies":
            os._exit(9)
        # As a pod is asked to end. The handler runs in between two lines of Python.
        os.kill(os.getpid(), signal.SIGTERM)
        if self.asked_to_end:
            raise Interrupted


@dataclass
class _Callbacks:
    worker: Worker

    def on_best(self, step: int) -> None:
        """The weights are not needed."""

    def on_checkpoint(self, progression: Progression) -> None:
        self.worker.checkpoints.save(self.worker.trainer.state(), progression, work=self.worker.work)

    def on_point(self, point: Point) -> None:
        """The curves are not needed."""

    def on_progress(self, progress: Progress) -> None:
        """Nobody reads it."""

    def check_stop(self) -> None:
        self.worker.check_stop()


def main(index: str, ports: str, folder: str) -> None:
    addresses = tuple(f"127.0.0.1:{port}" for port in ports.split(","))
    worker = Worker(Workers(addresses, int(index)), Path(folder))
    early = replace(CONFIG, early_stopping_patience=1, eval_every=1)
    for name, config, stop_at in (
        ("whole", CONFIG, None),
        ("cut", CONFIG, 3),
        ("cut", CONFIG, None),
        ("early", early, None),
        ("whole", CONFIG, None),
        ("early", early, None),
        ("dies", CONFIG, 1),
    ):
        print(json.dumps(worker.train(name, config, stop_at=stop_at)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
