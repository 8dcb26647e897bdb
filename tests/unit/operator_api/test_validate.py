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
    assert result.output.endswith("TrainingRun/field: valid\n")


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
