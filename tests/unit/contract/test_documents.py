"""The documents of docs/contract.md: its examples are read by the code that defines them."""

import io
import json
import re
from pathlib import Path

import pytest

from atoll_contract import keys
from atoll_contract.convert_spec import ConvertSpec, DatasetSource
from atoll_contract.document import from_json, to_json
from atoll_contract.errors import ExitCode, Reason, SpecError, exit_code, is_transient
from atoll_contract.harvest import HarvestNote
from atoll_contract.release import Channel, DeviceReport, Manifest, Role
from atoll_contract.stage import ENV_INPUT, Stage, StageInput
from atoll_contract.stage_result import (
    MAX_TERMINATION_MESSAGE,
    Artifact,
    Progress,
    StageResult,
    emit,
    last_progress,
    parse_result,
)
from atoll_contract.store_spec import StoreSpec, StoreType

PAGE = (Path(__file__).parents[3] / "docs/contract.md").read_text(encoding="utf-8")
RUN = keys.RunRef(namespace="local", name="bccd", uid="7b1e")


def examples() -> list[str]:
    """Every JSON document of the page; one that starts at the margin ends where the next one does."""
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    return [text for block in blocks for text in re.split(r"\n(?=\{)", block.strip())]


def example(mark: str) -> str:
    return next(text for text in examples() if mark in text)


@pytest.mark.parametrize(
    ("cls", "mark"),
    [
        (StageInput, '"upstream"'),
        (StageResult, '"summary"'),
        (Manifest, '"files"'),
        (Channel, '"updatedAt"'),
        (DeviceReport, '"reportedAt"'),
        (HarvestNote, '"takenAt"'),
    ],
)
def test_the_pages_examples_are_what_the_code_reads(cls: type[object], mark: str) -> None:
    text = example(mark)
    document = from_json(cls, text)
    assert json.loads(text).items() <= json.loads(to_json(document)).items() or cls is StageInput


def test_a_stage_input_survives_the_environment() -> None:
    given = StageInput(
        stage=Stage.CONVERT,
        attempt=2,
        run=RUN,
        store=StoreSpec(type=StoreType.DIRECTORY, path="store"),
        convert=ConvertSpec(sources=(DatasetSource(key="datasets/local/a.tar"),)),
    )
    assert StageInput.from_env(given.to_env()) == given
    assert given.prefix("pod") == "runs/local/7b1e/convert/a2-pod/"


def test_a_missing_or_wrong_input_is_an_invalid_spec() -> None:
    with pytest.raises(SpecError, match=ENV_INPUT):
        StageInput.from_env({})
    with pytest.raises(SpecError, match="stage must be one of convert"):
        StageInput.from_env({ENV_INPUT: '{"stage": "fly"}'})


def test_the_termination_message_is_bounded_and_keeps_the_outputs() -> None:
    outputs = tuple(Artifact(name=f"golden-{i}.png", key="runs/" + "k" * 90, sha256="0" * 64, size=1) for i in range(9))
    summary = {"classes": [{"name": "c" * 60, "boxes": i} for i in range(100)], "pictures": 7}
    result = StageResult(
        stage="export", attempt=1, reason=Reason.COMPLETED, message="m" * 5000, outputs=outputs, summary=summary
    )
    message = result.termination_message()
    assert len(message) <= MAX_TERMINATION_MESSAGE
    read = parse_result(message)
    assert read.outputs == outputs
    assert read.summary == {"pictures": 7}


def test_progress_is_the_newest_whole_line_of_a_log() -> None:
    stream = io.StringIO()
    emit(Progress(percent=10.0, step=1), stream)
    stream.write("some other line\n")
    emit(Progress(percent=20.0, step=2, loss=0.5), stream)
    stream.write('ATOLL_PROGRESS {"percent": 3')
    assert last_progress(stream.getvalue()) == Progress(percent=20.0, step=2, loss=0.5)
    assert last_progress("nothing here") is None


def test_every_failure_of_a_stage_has_a_code_in_the_range_of_its_kind() -> None:
    assert exit_code(Reason.DATASET_UNSAFE) == ExitCode(11)
    assert exit_code(Reason.EPHEMERAL_STORAGE_EXCEEDED) == 25
    assert exit_code(Reason.QUALITY_GATE_FAILED) == 45
    assert exit_code(Reason.ADOPTED) == 0
    assert len(set(ExitCode)) == len(ExitCode.__members__)


@pytest.mark.parametrize(
    ("code", "again"),
    [(0, False), (11, False), (25, False), (30, True), (45, False), (52, False), (137, True), (-9, True), (1, True)],
)
def test_only_transient_and_unknown_codes_are_retried(code: int, again: bool) -> None:
    assert is_transient(code) is again


def test_a_manifest_finds_its_files_by_role() -> None:
    manifest = from_json(Manifest, example('"files"'))
    assert manifest.release == "reefscape-note-v3"
    model = manifest.file(Role.MODEL_INT8)
    assert model is not None
    assert model.name == "unoptimized.tflite"
    assert manifest.file(Role.REPORT) is None
