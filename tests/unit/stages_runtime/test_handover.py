"""What a stage leaves for the next one of its pod, and what the next one makes of it, whoever wrote it."""

import errno
import os
from pathlib import Path

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import AtollError, IntegrityError, Reason
from atoll_contract.keys import RunRef
from atoll_contract.stage import ENV_HANDOVER_DIR, ExportSpec, Stage, StageInput
from atoll_contract.stage_result import Artifact, StageResult
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_contract.train_spec import TrainSpec
from atoll_stages.runtime.child import resume_completed
from atoll_stages.runtime.exit_result import ExitResult
from atoll_stages.runtime.handover import MAX_BYTES, leave_result, with_handed_over

RUN = RunRef("team", "note", "7b1e")
SHA = "a" * 64
DATASET = Artifact("dataset", "cache/team/datasets/d/dataset.json", SHA, 3)
WEIGHTS = Artifact("weights", "runs/team/7b1e/train/a1-pod/weights.h5", SHA, 10)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {ENV_HANDOVER_DIR: str(tmp_path)}


def export_input() -> StageInput:
    store = StoreSpec(StoreType.DIRECTORY, path="/nowhere")
    upstream = {"convert": (DATASET,)}
    section = ExportSpec(TrainSpec())
    return StageInput(Stage.EXPORT, 1, RUN, store, upstream, handed_over=(Stage.TRAIN,), export=section)


def result(*outputs: Artifact, reason: Reason = Reason.COMPLETED, stage: Stage = Stage.TRAIN) -> bytes:
    place = Artifact("result.json", "runs/team/7b1e/train/a1-pod/result.json", SHA, 5)
    return StageResult(stage, 1, reason, "done", outputs, result=place).termination_message()


def test_the_next_stage_has_the_outputs_among_its_upstream(environ: dict[str, str]) -> None:
    leave_result(Stage.TRAIN, result(WEIGHTS, DATASET), environ)
    given = with_handed_over(export_input(), environ)
    assert given.artifact(Stage.TRAIN, "weights") == WEIGHTS
    assert given.artifact(Stage.CONVERT, "dataset") == DATASET


def test_many_outputs_with_long_keys_arrive_whole(environ: dict[str, str]) -> None:
    """The message is then written with keys relative to the attempt."""
    many = tuple(
        replace(WEIGHTS, name=f"file-{i}", key=f"runs/team/7b1e/train/a1-pod/{'x' * 150}{i}") for i in range(12)
    )
    leave_result(Stage.TRAIN, result(*many), environ)
    assert with_handed_over(export_input(), environ).upstream["train"] == many


def test_without_a_next_stage_nothing_is_written(tmp_path: Path) -> None:
    leave_result(Stage.TRAIN, result(WEIGHTS), {})
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_expects_nothing_stays_as_it_is() -> None:
    alone = replace(export_input(), handed_over=None)
    assert with_handed_over(alone, {}) == alone


def test_a_folder_that_is_full_or_gone_fails_the_next_stage_and_not_this_one(tmp_path: Path) -> None:
    environ = {ENV_HANDOVER_DIR: str(tmp_path / "gone")}
    leave_result(Stage.TRAIN, result(WEIGHTS), environ)
    with pytest.raises(AtollError, match=r"stage train left no result in .*/gone/train\.json") as caught:
        with_handed_over(export_input(), environ)
    assert caught.value.reason is Reason.RESULT_MISSING


@pytest.mark.parametrize(("number", "told"), [(errno.EROFS, False), (errno.ENOSPC, True)])
def test_a_folder_that_the_last_stage_may_only_read_is_no_error(
    number: int, told: bool, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, _: bytes) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    leave_result(Stage.EXPORT, result(WEIGHTS), environ)
    assert bool(caplog.records) is told


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "left no result"),
        (b"\xff", "left no result"),
        (b"{}", "StageResult.stage is missing"),
        (result(WEIGHTS, stage=Stage.EXPORT), "has the result of stage export"),
        (result(WEIGHTS, reason=Reason.TRAINING_DIVERGED), "TrainingDiverged"),
        (b"x" * (MAX_BYTES + 1), "no file of at most"),
    ],
)
def test_a_result_that_is_none_is_named(environ: dict[str, str], tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "train.json").write_bytes(data)
    with pytest.raises(AtollError, match=text) as caught:
        with_handed_over(export_input(), environ)
    assert caught.value.reason is Reason.RESULT_MISSING


@pytest.mark.parametrize(
    "key",
    ["runs/team/other/train/a1-pod/weights.h5", "runs/team/7b1e/../other/weights.h5", "models/team/note/v1/x", "a\nb"],
)
def test_a_result_with_files_of_others_is_refused(environ: dict[str, str], key: str) -> None:
    leave_result(Stage.TRAIN, result(replace(WEIGHTS, key=key)), environ)
    with pytest.raises(IntegrityError, match="result of stage train"):
        with_handed_over(export_input(), environ)


def test_a_link_or_a_pipe_is_not_followed(environ: dict[str, str], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(result(WEIGHTS))
    (tmp_path / "train.json").symlink_to(secret)
    with pytest.raises(AtollError, match="left no result"):
        with_handed_over(export_input(), environ)
    (tmp_path / "train.json").unlink()
    os.mkfifo(tmp_path / "train.json")
    with pytest.raises(AtollError, match="left no result"):
        with_handed_over(export_input(), environ)


def test_an_adopted_result_is_handed_on_like_a_new_one(environ: dict[str, str], tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    weights = store.put("runs/team/7b1e/train/a1-old/weights.h5", b"weights")
    assert weights.sha256 is not None
    output = Artifact("weights", weights.key, weights.sha256, weights.size)
    earlier = StageResult(Stage.TRAIN, 1, Reason.COMPLETED, "done", (output,))
    store.put("runs/team/7b1e/train/a1-old/result.json", earlier.termination_message())
    given = StageInput(Stage.TRAIN, 2, RUN, StoreSpec(StoreType.DIRECTORY, path="/nowhere"))
    adopted = resume_completed(given, store, tmp_path)
    assert adopted is not None
    left = ExitResult(adopted.termination_message(), 0)
    leave_result(Stage.TRAIN, left.message, environ)
    assert with_handed_over(export_input(), environ).upstream["train"] == (output,)
