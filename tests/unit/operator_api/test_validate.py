"""`atoll validate` as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from atoll_cli.commands.submit import validate_command as command

SAMPLES = Path(__file__).parents[3] / "crds" / "samples"
BAD = """apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: {name: note}
spec:
  steps: 5
  datasets: [{key: a.tar}]
  publish: {model: note}
"""
SAID = 'TrainingRun/note: spec.steps: unknown field "spec.steps"; the field is spec.training.steps'


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD, encoding="utf-8")
    return file


def test_valid_files() -> None:
    result = CliRunner().invoke(command, ["-f", str(SAMPLES / "trainingrun-field.yaml")])
    assert result.exit_code == 0
    valid, chosen = result.output.splitlines()
    assert valid.endswith("TrainingRun/field: valid")
    assert chosen == "  training.preset auto: 900 steps; from random weights every layer learns"


def test_a_run_that_leaves_its_training_open_is_told_what_is_chosen() -> None:
    text = BAD.replace("  steps: 5", "  training: {hyperparameters: {frozen-blocks: '2'}}")
    result = CliRunner().invoke(command, ["-f", "-"], input=text)
    assert result.exit_code == 0, result.output
    assert "training.preset auto: the steps go by the number of pictures; the backbone's stem" in result.output
    assert result.output.endswith("set by hand: frozen-blocks\n")
    plain = CliRunner().invoke(command, ["-f", "-"], input=text.replace("{hyper", "{preset: plain, hyper"))
    assert "training.preset plain: 1000 steps; every layer learns" in plain.output


def test_a_bad_file_beside_a_good_one(bad: Path) -> None:
    result = CliRunner().invoke(command, ["-f", str(bad), "-f", str(SAMPLES / "objectstore-minio.yaml")])
    assert result.exit_code == 20
    assert result.output.splitlines()[0] == f"{bad}:5: {SAID}"
    assert "ObjectStore/default: valid" in result.output
    assert result.output.endswith("1 problem\n")


def test_standard_input() -> None:
    result = CliRunner().invoke(command, ["-f", "-"], input=BAD)
    assert result.exit_code == 20
    assert result.output.startswith(f"-:5: {SAID}")


def test_json(bad: Path) -> None:
    result = CliRunner().invoke(command, ["-f", str(bad), "--json"])
    assert result.exit_code == 20
    answer = json.loads(result.output)
    assert answer["valid"] is False
    assert answer["objects"][0]["name"] == "note"
    assert answer["problems"] == [
        {
            "file": str(bad),
            "line": 5,
            "object": "TrainingRun/note",
            "path": "spec.steps",
            "message": 'unknown field "spec.steps"',
            "advice": "the field is spec.training.steps",
        }
    ]


def test_without_a_file() -> None:
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 2
    assert "no FILE is named" in result.output


def test_it_needs_nothing_that_windows_lacks() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['fcntl', 'resource', 'pwd', 'grp', 'termios', 'tty']))\n"
        "from atoll_cli.commands.submit import validate_command\n"
        "validate_command()\n"
    )
    sample = str(SAMPLES / "trainingrun-full.yaml")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "-f", sample], capture_output=True, text=True, timeout=55, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
