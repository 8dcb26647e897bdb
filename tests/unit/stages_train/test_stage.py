"""The train stage on a store, by the contract's documents."""

import json
from pathlib import Path

import pytest

from atoll_contract import keys
from atoll_contract.document import from_json, replace
from atoll_contract.errors import AtollError, Reason
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage, StageInput
from atoll_contract.stage_result import Artifact, Progress, parse_line
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_contract.train_spec import Accelerator, Architecture, InitFrom, Preset, StartWeights, TrainSpec
from atoll_stages.runtime.context import Interrupted, StageContext, StageOutcome
from atoll_stages.train.history import History
from atoll_stages.train.initial_weights import ModelInfo, load_detector
from atoll_stages.train.stage import train
from support.detection_data import CLASSES, store_dataset

SPEC = TrainSpec(
    architecture=Architecture.FPNLITE_192,
    width=0.35,
    init_from=StartWeights(InitFrom.RANDOM),
    steps=4,
    batch_size=2,
    eval_every_steps=2,
    checkpoint_every_steps=1,
)


def context(folder: Path, spec: TrainSpec, *, uid: str = "u1", pod: str = "p1", train_images: int = 4) -> StageContext:
    store = DirStore(folder / "store")
    work = folder / f"work-{uid}-{pod}"
    work.mkdir(parents=True)
    dataset = store_dataset(store, work, train=train_images, validation=2)
    given = StageInput(
        stage=Stage.TRAIN,
        attempt=1,
        run=RunRef("local", "test", uid),
        store=StoreSpec(StoreType.DIRECTORY, path=str(folder / "store")),
        upstream={Stage.CONVERT: (dataset,)},
        train=spec,
    )
    return StageContext(given, store, work, pod_uid=pod)


def named(outcome: StageOutcome, name: str) -> Artifact:
    return next(item for item in outcome.outputs if item.name == name)


class StoppingContext(StageContext):
    """Told to stop as soon as it reports a step."""

    def report(self, now: Progress) -> None:
        super().report(now)
        if now.step:
            self.stop.set()


@pytest.mark.timeout(300)
def test_an_interrupted_stage_ends_with_the_same_weights_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole = context(tmp_path, SPEC, uid="whole")
    outcome = train(whole)
    interrupted = context(tmp_path, SPEC, uid="cut")
    with pytest.raises(Interrupted):
        train(StoppingContext(interrupted.input, interrupted.store, interrupted.work))
    assert any(
        info.key.endswith(".npz") for info in interrupted.store.list(keys.checkpoints_prefix(interrupted.input.run))
    )
    resumed = train(context(tmp_path, SPEC, uid="cut", pod="p2"))
    assert named(resumed, "weights").sha256 == named(outcome, "weights").sha256
    assert resumed.summary["ap50"] == outcome.summary["ap50"]
    _check_documents(whole, outcome)


@pytest.mark.timeout(300)
def test_O38_progress_names_the_newest_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def saved() -> list[int | None]:
        lines = (parse_line(line) for line in capsys.readouterr().out.splitlines())
        return [line.checkpoint_step for line in lines if line is not None]

    first = context(tmp_path, SPEC, uid="named")
    with pytest.raises(Interrupted):
        train(StoppingContext(first.input, first.store, first.work))
    stopped_at = saved()
    assert stopped_at[0] is None
    assert stopped_at[-1] == 1
    train(context(tmp_path, SPEC, uid="named", pod="p2"))
    assert saved()[-1] == SPEC.steps


@pytest.mark.timeout(300)
def test_a_training_that_a_version_without_presets_began_goes_on_as_it_began(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = context(tmp_path, SPEC, uid="cut")
    with pytest.raises(Interrupted):
        train(StoppingContext(begun.input, begun.store, begun.work))
    outcome = train(context(tmp_path, replace(SPEC, preset=Preset.AUTO, max_steps=9), uid="cut", pod="p2"))
    assert "it goes on as it began" in caplog.text
    assert "going on from the checkpoint of step 1" in caplog.text
    assert outcome.summary["step"] == SPEC.steps


@pytest.mark.timeout(300)
def test_O36_a_training_asked_for_anew_does_not_go_on_from_an_old_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = context(tmp_path, SPEC, uid="anew")
    new = context(tmp_path, SPEC, uid="anew", pod="p2")
    new = replace(new, input=replace(new.input, attempt=2, adopt_from=2))
    for given in (old, new):
        with pytest.raises(Interrupted):
            train(StoppingContext(given.input, given.store, given.work))
    assert "going on from the checkpoint" not in caplog.text
    of_old, of_new = (keys.checkpoints_prefix(new.input.run, adopt_from=start) for start in (None, 2))
    found = [info.key for info in new.store.list(of_old) if info.key.endswith(".npz")]
    assert sorted(key.startswith(of_new) for key in found) == [False, True]


def _check_documents(done: StageContext, outcome: StageOutcome) -> None:
    weights = done.fetch(named(outcome, "weights"), done.work / "fetched.h5")
    _, info = load_detector(weights, ModelInfo(SPEC.architecture, SPEC.width, CLASSES))
    assert (info.classes, info.step) == (CLASSES, outcome.summary["bestStep"])
    history = from_json(History, done.store.get(named(outcome, "history").key))
    assert history.step == SPEC.steps
    assert [point.step for point in history.points if point.ap50 is not None] == [2, 4]
    assert history.settings["seed"] == "0"
    assert set(outcome.summary) == {
        "step",
        "bestStep",
        "ap50",
        "initFrom",
        "imagesPerSecond",
        "unloadedSeconds",
        "accelerator",
        "trainSeconds",
    }
    json.dumps(dict(outcome.summary))
    assert outcome.summary["unloadedSeconds"] > 0
    assert any("tfevents" in info.key for info in done.store.list(done.prefix))


def failure(folder: Path, spec: TrainSpec, *, train_images: int = 4) -> AtollError:
    with pytest.raises(AtollError) as raised:
        train(context(folder, spec, train_images=train_images))
    return raised.value


def test_a_dataset_without_training_images_is_refused(tmp_path: Path) -> None:
    error = failure(tmp_path, SPEC, train_images=0)
    assert error.reason is Reason.NO_USABLE_EXAMPLES
    assert "train part" in error.message


def test_missing_imagenet_weights_never_become_random_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATOLL_WEIGHTS_DIR", raising=False)
    error = failure(tmp_path, replace(SPEC, init_from=StartWeights(InitFrom.IMAGENET)))
    assert error.reason is Reason.WEIGHTS_NOT_FOUND


def test_a_missing_gpu_is_refused(tmp_path: Path) -> None:
    error = failure(tmp_path, replace(SPEC, accelerator=Accelerator.GPU))
    assert error.reason is Reason.INVALID_SPEC
    assert "TensorFlow sees none" in error.message


def test_an_unknown_hyperparameter_ends_the_stage_before_it_works(tmp_path: Path) -> None:
    error = failure(tmp_path, replace(SPEC, hyperparameters={"learn": "1"}))
    assert error.reason is Reason.INVALID_SPEC
