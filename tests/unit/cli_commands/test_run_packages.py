"""`atoll run` where a package of the stages is not installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from atoll_cli.commands.run import STAGE_PACKAGES
from atoll_cli.main import main
from atoll_contract import installation
from support.house import SOURCE_ROOTS, imported, modules

# What comes with one of the packages that are asked for, or where a stage goes on without it.
BROUGHT = {"botocore", "flatbuffers", "h5py", "keras", "markupsafe", "msgspec", "yaml"}
# Compile targets that lack theirs say so.
OF_TARGETS = {"onnx", "onnxruntime", "onnxruntime_qnn", "rknn", "tf2onnx"}
OPTIONAL = {"ai_edge_litert", "av", "mypy_boto3_s3"} | OF_TARGETS


def test_run_refuses_before_it_stores_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None if name == "tensorflow" else find_spec(name))
    path = tmp_path / "run.yaml"
    path.write_text("kind: TrainingRun\n")
    store = tmp_path / "store"
    assert main(["run", "-f", str(path), "--store", str(store)]) == 20
    message = capsys.readouterr().err
    assert message.startswith("error: atoll run needs tensorflow, not installed here")
    assert "pip install 'atoll[laptop]'" in message
    assert not store.exists()


def test_run_asks_for_every_package_that_a_stage_imports() -> None:
    packages = set()
    for module in modules():
        if module.name.split(".")[0] in ("atoll_contract", "atoll_stages"):
            packages |= {name.split(".")[0] for name in imported(module)}
    foreign = packages - sys.stdlib_module_names - set(SOURCE_ROOTS)
    assert foreign - BROUGHT - OPTIONAL == set(STAGE_PACKAGES)
