"""Training as a whole, on a network small enough for a test: it learns, resumes bit for bit, saves and stops early."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll_contract.errors import ModelError, Reason
from atoll_contract.stage_result import Progress
from atoll_contract.store.base import StoreForbidden
from atoll_contract.store.directory import DirStore
from atoll_contract.train_spec import Architecture
from atoll_stages.runtime.context import Interrupted
from atoll_stages.train import loop as loop_module
from atoll_stages.train import trainer as trainer_module
from atoll_stages.train.augment import augment
from atoll_stages.train.checkpoints import CheckpointStore
from atoll_stages.train.config import TrainConfig
from atoll_stages.train.dataset import BatchLoader, evenly_spaced
from atoll_stages.train.evaluate import Metrics
from atoll_stages.train.history import DIVERGENCE_WINDOW, Best, DivergenceMonitor, Point, Progression
from atoll_stages.train.initial_weights import weights_by_path
from atoll_stages.train.loop import TrainingLoop
from atoll_stages.train.optimizer import ImageSizeSchedule, LearningRateSchedule
from atoll_stages.train.sampling import Sampling
from atoll_stages.train.trainer import Trainer, TrainerSettings
from support.detection_data import CLASSES, labelled_images

SIDE, STEPS = 64, 6
SETTINGS = TrainerSettings(
    architecture=Architecture.FPNLITE_192, width=0.35, classes=len(CLASSES), seed=3, side=SIDE, ema_decay=0.9
)
CONFIG = TrainConfig(
    trainer=SETTINGS,
    learning_rate=LearningRateSchedule(1e-3, STEPS),
    image_size=ImageSizeSchedule(SIDE, STEPS),
    steps=STEPS,
    batch_size=4,
    eval_every=3,
    checkpoint_every=2,
    early_stopping_patience=None,
    fingerprint="f",
)


@dataclass
class MemoryCallbacks:
    """Keeps what the loop passes to it, checkpoints in a real store."""

    trainer: Trainer
    checkpoints: CheckpointStore
    work: Path
    check_stop: Callable[[], None]
    best: list[int] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)

    def on_best(self, step: int) -> None:
        self.best.append(step)

    def on_checkpoint(self, progression: Progression) -> None:
        self.checkpoints.save(self.trainer.state(), progression, work=self.work)

    def on_point(self, point: Point) -> None:
        self.points.append(point)

    def on_progress(self, progress: Progress) -> None:
        self.progress.append(progress)


@dataclass
class Bench:
    """One store, and as many trainings over it as a test wants."""

    folder: Path
    progress: list[Progress] = field(default_factory=list)

    @property
    def checkpoints(self) -> CheckpointStore:
        return CheckpointStore(DirStore(self.folder / "store"), "c/", "f")

    def train(
        self, config: TrainConfig = CONFIG, *, check_stop: Callable[[], None] = lambda: None
    ) -> tuple[Trainer, Progression]:
        trainer = Trainer(config.trainer)
        trainer.average.reset()
        progression = self.checkpoints.restore(trainer.state(), work=self.folder) or Progression()
        batch_size, seed = config.batch_size, config.trainer.seed
        with BatchLoader(labelled_images(6), side=96, batch_size=batch_size, sampling=Sampling(seed)) as loader:
            loop = TrainingLoop(
                config=config,
                trainer=trainer,
                loader=loader,
                validation=labelled_images(2, first=100),
                classes=CLASSES,
                callbacks=MemoryCallbacks(trainer, self.checkpoints, self.folder, check_stop, progress=self.progress),
            )
            return trainer, loop.run(progression)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def state(trainer: Trainer) -> list[np.ndarray]:
    return [v.numpy() for v in trainer.state()]


def stopping_after(calls: int) -> Callable[[], None]:
    left = iter(range(calls))

    def check() -> None:
        if next(left, None) is None:
            raise Interrupted

    return check


def fresh(folder: Path) -> Bench:
    folder.mkdir()
    return Bench(folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("calls", [0, 2], ids=["after the first step", "between checkpoints"])
def test_a_resumed_training_equals_an_undisturbed_one_bit_for_bit(tmp_path: Path, calls: int) -> None:
    whole, whole_end = fresh(tmp_path / "whole").train()
    cut = fresh(tmp_path / "cut")
    with pytest.raises(Interrupted):
        cut.train(check_stop=stopping_after(calls))
    assert cut.checkpoints.steps()[-1] == calls + 1
    resumed, resumed_end = cut.train()
    assert resumed_end.step == whole_end.step == STEPS
    assert resumed_end.best == whole_end.best
    for a, b in zip(state(whole), state(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("architecture", [Architecture.FPNLITE_192, Architecture.DFL_192])
def test_one_trace_of_the_step_serves_every_picture_size(
    monkeypatch: pytest.MonkeyPatch, architecture: Architecture
) -> None:
    traces = []

    def counted(**keywords: Any) -> tuple[Any, ...]:
        traces.append(keywords)
        return augment(**keywords)

    monkeypatch.setattr(trainer_module, "augment", counted)
    trainer = Trainer(replace(SETTINGS, architecture=architecture))
    with BatchLoader(labelled_images(4), side=96, batch_size=4, sampling=Sampling(1)) as loader:
        for step, side in enumerate((64, 96, 64)):
            losses = trainer.train_step(loader.batch(step), step=step, learning_rate=1e-3, side=side)
            assert np.isfinite(losses).all()
    assert len(traces) == 1


@pytest.mark.timeout(180)
def test_the_loss_falls_and_the_curves_and_progress_say_so(bench: Bench) -> None:
    config = replace(
        CONFIG,
        steps=40,
        learning_rate=LearningRateSchedule(3e-3, 40),
        image_size=ImageSizeSchedule(SIDE, 40),
        eval_every=40,
        checkpoint_every=40,
    )
    _, end = bench.train(config)
    losses = [point.loss for point in end.history]
    assert losses[-1] < 0.8 * losses[0]
    assert end.history[-1].ap50 is not None
    assert end.best is not None
    last = bench.progress[-1]
    assert (last.step, last.total_steps, last.percent, last.eta_seconds) == (40, 40, 100.0, 0.0)


@pytest.mark.timeout(180)
def test_without_a_better_step_training_ends_early(bench: Bench) -> None:
    still = LearningRateSchedule(1e-9, 30)
    config = replace(
        CONFIG, steps=30, learning_rate=still, eval_every=1, checkpoint_every=30, early_stopping_patience=2
    )
    _, end = bench.train(config)
    assert end.step < 30
    assert end.stale == 2
    assert bench.checkpoints.steps() == [end.step]


@pytest.mark.timeout(180)
def test_the_best_step_has_the_best_mean_of_ap50_and_ap(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # As measured on 31 photographs: an early step has the highest AP50, by one object, and poor boxes.
    figures = iter([(0.957, 0.296), (0.953, 0.538), (0.954, 0.570), (0.960, 0.560)])
    monkeypatch.setattr(loop_module, "evaluate", lambda **_: Metrics(*next(figures), ap_small=None))
    end = bench.train(replace(CONFIG, steps=4, eval_every=1, checkpoint_every=2))[1]
    assert (end.best, end.stale) == (Best(3, 0.954), 1)
    assert (bench.progress[-1].best_step, bench.progress[-1].ap50) == (3, 0.954)


@pytest.mark.timeout(180)
def test_a_far_too_high_learning_rate_ends_as_diverged(bench: Bench) -> None:
    config = replace(CONFIG, steps=60, learning_rate=LearningRateSchedule(1e6, 60), eval_every=60, checkpoint_every=60)
    with pytest.raises(ModelError, match=r"lower learningRate \(1e\+06\)") as raised:
        bench.train(config)
    assert raised.value.reason is Reason.TRAINING_DIVERGED


def test_nan_is_named_with_its_step() -> None:
    with pytest.raises(ModelError, match=r"the loss is nan at step 312; lower learningRate \(0\.8\)"):
        DivergenceMonitor(peak=0.8).update(float("nan"), step=312)


def test_a_loss_that_only_fluctuates_is_no_divergence() -> None:
    watch = DivergenceMonitor(peak=0.1)
    for step in range(10 * DIVERGENCE_WINDOW):
        watch.update(2.0 + (step % 3), step=step + 1)


@pytest.fixture(scope="module")
def trained_state() -> Trainer:
    return Trainer(SETTINGS)


def test_checkpoints_of_other_settings_and_damaged_ones_are_passed_over(tmp_path: Path, trained_state: Trainer) -> None:
    store, variables = DirStore(tmp_path / "store"), trained_state.state()
    ours = CheckpointStore(store, "c/", "f")
    ours.save(variables, Progression(step=2), work=tmp_path)
    CheckpointStore(store, "c/", "other").save(variables, Progression(step=4), work=tmp_path)
    store.put("c/step-00000009.npz", b"torn")
    found = ours.restore(variables, work=tmp_path)
    assert found is not None
    assert found.step == 2


def test_only_the_newest_checkpoints_stay(tmp_path: Path, trained_state: Trainer) -> None:
    checkpoints = CheckpointStore(DirStore(tmp_path / "store"), "c/", "f")
    for step in (1, 2, 3):
        checkpoints.save(trained_state.state(), Progression(step=step), work=tmp_path)
    assert checkpoints.steps() == [2, 3]


class Locked(DirStore):
    """A store under object lock."""

    def delete(self, key: str) -> None:
        raise StoreForbidden(f"cannot delete {key!r}: 403 AccessDenied")


def test_S12_a_store_that_keeps_every_checkpoint_does_not_end_the_training(
    tmp_path: Path, trained_state: Trainer
) -> None:
    checkpoints = CheckpointStore(Locked(tmp_path / "store"), "c/", "f")
    for step in (1, 2, 3):
        checkpoints.save(trained_state.state(), Progression(step=step), work=tmp_path)
    assert checkpoints.steps() == [1, 2, 3]
    found = checkpoints.restore(trained_state.state(), work=tmp_path)
    assert found is not None
    assert found.step == 3


def test_the_same_seed_gives_the_same_start(trained_state: Trainer) -> None:
    again = weights_by_path(Trainer(SETTINGS).model)
    for name, value in weights_by_path(trained_state.model).items():
        np.testing.assert_array_equal(value, again[name])
    other = weights_by_path(Trainer(replace(SETTINGS, seed=4)).model)
    assert not np.array_equal(other["Conv1/kernel"], again["Conv1/kernel"])


def test_every_image_comes_once_in_an_epoch_and_batches_depend_on_the_step_alone() -> None:
    loader = BatchLoader(labelled_images(6), side=32, batch_size=3, sampling=Sampling(1))
    uncached = BatchLoader(labelled_images(6), side=32, batch_size=3, sampling=Sampling(1), cache_bytes=0)
    for step in (5, 0, 1):
        for a, b in zip(vars(loader.batch(step)).values(), vars(uncached.batch(step)).values(), strict=True):
            np.testing.assert_array_equal(a, b)
    epoch = np.concatenate([loader.batch(step).canvases for step in (0, 1)])
    assert len({labelled_image.tobytes() for labelled_image in epoch}) == 6


def test_an_even_choice_has_the_first_and_the_last_item() -> None:
    assert evenly_spaced(range(1000), 3) == [0, 500, 999]
    assert evenly_spaced(range(2), 10) == [0, 1]
