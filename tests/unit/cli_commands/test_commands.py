"""The `atoll` command line as a user calls it, in a process of its own where that matters."""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from atoll_cli.command_table import COMMANDS
from atoll_cli.commands.push import HDF5_SIGNATURE
from atoll_cli.console import exit_status, reason_status
from atoll_cli.main import cli, main
from atoll_cli.options import ClusterOptions, EngineOptions
from atoll_cli.param_types import Duration
from atoll_contract.document import replace, to_json
from atoll_contract.errors import Reason
from atoll_contract.keys import RunRef
from atoll_contract.release import Channel, EdgeTpu, Manifest, ManifestFile, ManifestRef, ModelInput, Role
from atoll_contract.signing import generate_key, sign
from atoll_contract.store import directory_store, open_store
from atoll_contract.store.base import Store
from atoll_operator.api.status import Phase, RunStatus

ROOT = Path(__file__).parents[3]

RUN = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: { name: note }
spec:
  datasets: [{ key: datasets/local/pictures.tar }]
  publish: { model: note }
"""


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_the_page_shows_how_a_shell_completes(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'eval "$(atoll completion bash)"' in (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert main(["completion", "bash"]) == 0
    variable = re.search(r"(\w+)=bash_complete", capsys.readouterr().out)
    assert variable is not None
    environment = os.environ | {variable[1]: "bash_complete", "COMP_WORDS": "atoll pu", "COMP_CWORD": "1"}
    command = [sys.executable, "-P", "-c", "from atoll_cli.main import main; main([])"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True, env=environment)
    assert sorted(done.stdout.split()) == ["plain,pull", "plain,push"]


def test_help_lists_the_exit_codes() -> None:
    last = CliRunner().invoke(cli, ["--help"]).output.splitlines()[-1]
    assert last == "Exit codes (atoll help cli): 0 done, 1 failed, 2 wrong usage, 130 suspended."


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing"], 2, "there is no command 'nothing'"),
        (["run"], 2, "no FILE is named; write atoll run run.yaml"),
        (["report", "none", "--store", "."], 20, "there is no run none"),
        (["cancel", "none", "--store", "."], 20, "there is no run none"),
        (["cancel", "none", "--store", ".", "-n", "team"], 20, "give one of them"),
        (["cancel", "none", "--kubeconfig", "missing"], 1, "missing"),
        (["status", "--watch"], 2, "name it"),
        (["wait", "none", "--timeout", "soon"], 2, "write 90s"),
        (["run", "-f", "missing.yaml"], 2, "there is no file missing.yaml"),
    ],
)
def test_a_mistake_is_a_sentence(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_the_problems_of_an_invalid_file_are_listed_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN.replace("model: note", "model: Note"))
    assert main(["run", "-f", str(path), "--store", str(tmp_path / "store")]) == 20
    assert f"{path}:7" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.timeout(300)
def test_a_missing_data_set_ends_with_its_code_and_without_traceback(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    command = [sys.executable, "-P", "-m", "atoll_cli.main", "run", "-f", "run.yaml", "-o", "json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    document = json.loads(done.stdout)
    assert done.returncode == 10
    assert document["phase"] == "Failed"
    assert document["reason"] == "DatasetNotFound"
    assert "datasets/local/pictures.tar" in document["message"]
    assert [item["name"] for item in document["stages"]] == ["convert", "train", "export", "compile", "publish"]
    assert "Traceback" not in done.stderr


def test_releases_shows_what_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(directory_store(tmp_path))
    run = RunRef("local", "note", "uid")
    for version in (1, 2, 10):
        manifest = Manifest(
            namespace="local",
            model="note",
            version=version,
            sequence=version,
            created_at="2027-01-09T19:12:00Z",
            run=run,
            input=ModelInput(320, 320),
            labels=("[note]",),
            thresholds=(0.5,),
            files=(),
            edgetpu=EdgeTpu(compiled=False),
            metrics={"int8": {"ap50": 0.876}},
        )
        store.put(f"models/local/note/v{version}/manifest.json", to_json(manifest))
    pointer = Channel("local", "note", "stable", 10, 10, ManifestRef("k", "s", 1), "2027-01-09T19:12:01Z")
    store.put("models/local/note/channels/stable.json", to_json(pointer))
    assert main(["releases", "--store", str(tmp_path), "-o", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [item["version"] for item in listed] == [1, 2, 10]
    assert listed[2]["channels"] == ["stable"]
    assert main(["releases", "--store", str(tmp_path), "-n", "team", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["releases", "note", "--store", str(tmp_path), "-o", "wide"]) == 0
    shown = capsys.readouterr().out
    assert "note-v10" in shown
    assert "[note]" in shown
    store.put("models/local/note/v11/manifest.json", b"{}")
    assert main(["releases", "--store", str(tmp_path)]) == 50


def test_keygen_writes_a_private_file_and_never_over_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key.pem"
    assert main(["keygen", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    private = path.read_text()
    assert private not in capsys.readouterr().out
    assert "PUBLIC KEY" in (tmp_path / "key.pem.pub").read_text()
    assert main(["keygen", str(path)]) == 20
    assert path.read_text() == private


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (RunStatus(phase=Phase.SUCCEEDED), 0),
        (RunStatus(phase=Phase.CANCELLED, reason=Reason.CANCELLED), 3),
        (RunStatus(phase=Phase.SUSPENDED), 130),
        (RunStatus(phase=Phase.FAILED, reason=Reason.NO_USABLE_EXAMPLES), 15),
        (RunStatus(phase=Phase.FAILED, reason=Reason.QUALITY_GATE_FAILED), 45),
        (RunStatus(phase=Phase.FAILED, reason=Reason.DEADLINE_EXCEEDED), 1),
    ],
)
def test_a_status_has_its_exit_code(status: RunStatus, code: int) -> None:
    assert exit_status(status) == code


def test_every_reason_has_an_exit_code() -> None:
    assert all(0 <= reason_status(reason) < 128 for reason in Reason)


def test_all_commands_but_run_import_without_the_modules_that_windows_lacks() -> None:
    """With the modules that plain Windows Python lacks blocked, every command but `run` must work."""
    code = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None
from atoll_cli.command_table import COMMANDS
from atoll_cli.main import cli
import click
context = click.Context(cli)
for name in COMMANDS:
    if name != "run":
        assert cli.get_command(context, name) is not None, name
assert cli.main(["releases", "--store", "nowhere"], standalone_mode=False) in (None, 0)
print("fine")
"""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=50, check=False, env=environ
    )
    assert done.stdout.endswith("fine\n"), done.stderr


@pytest.mark.parametrize("name", ["kopf", "kubernetes", "tensorflow", "boto3", "numpy"])
def test_help_loads_nothing_heavy(name: str) -> None:
    imports = "import sys; from atoll_cli.main import cli; cli.get_command(None, 'run')"
    code = f"{imports}; print({name!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "False\n"


def test_the_page_lists_every_exit_code_of_the_contract() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    for reason in Reason:
        code = reason_status(reason)
        if code >= 10 and reason not in (Reason.SUSPENDED,):
            assert f"{code} {reason}" in page


@pytest.mark.parametrize(
    ("arguments", "environment", "folder", "expected"),
    [
        ({"store": Path("mine")}, "other", True, Path("mine")),
        ({"cluster": ClusterOptions(namespace="team")}, "other", True, None),
        ({"cluster": ClusterOptions(context="lab")}, "", True, None),
        ({}, "other", True, Path("other")),
        ({}, "", True, Path("atoll-store")),
        ({}, "", False, None),
    ],
)
def test_options_environment_and_folder_choose_the_engine(
    arguments: dict[str, Any],
    environment: str,
    folder: bool,
    expected: Path | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATOLL_STORE", environment)
    if folder:
        (tmp_path / "atoll-store").mkdir()
    assert EngineOptions(**arguments).local_folder() == expected


def test_kubectl_atoll_does_not_take_a_folder_for_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATOLL_STORE", raising=False)
    (tmp_path / "atoll-store").mkdir()
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kubectl-atoll"])
    assert EngineOptions().local_folder() is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("30d", 30 * 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


def test_push_and_pull_serve_a_folder_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.weights.h5"
    file.write_bytes(HDF5_SIGNATURE)
    folder = tmp_path / "store"
    store = open_store(directory_store(folder))
    assert main(["push", str(file), "--weights", "--store", str(folder)]) == 0
    assert store.get("weights/own.weights.h5") == HDF5_SIGNATURE
    manifest, key = pulled(store), "models/local/note/v3/manifest.json"
    store.put(key, to_json(manifest))
    assert main(["pull", "note-v3", "--store", str(folder), "--to", str(tmp_path / "got")]) == 0
    assert (tmp_path / "got" / "model.tar.gz").read_bytes() == b"bundle"
    assert main(["pull", "note-v4", "--store", str(folder)]) == 20
    store.put(key, to_json(replace(manifest, files=(replace(manifest.files[0], sha256="0" * 64),))))
    assert main(["pull", "note-v3", "--store", str(folder), "--to", str(tmp_path / "other")]) == 50
    capsys.readouterr()
    store.put(key, to_json(replace(manifest, files=(replace(manifest.files[0], name="../../escaped"),))))
    assert main(["pull", "note-v3", "--store", str(folder), "--to", str(tmp_path / "deep" / "er")]) == 50
    assert "no plain name" in capsys.readouterr().err
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("content", [b"PK\x03\x04 of a .pt or .zip", b"", b"\x89HDF"])
def test_what_is_no_hdf5_is_not_pushed_as_weights(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.h5", tmp_path / "bad.pt"
    good.write_bytes(HDF5_SIGNATURE)
    bad.write_bytes(content)
    assert main(["push", str(good), str(bad), "--weights", "--store", str(tmp_path / "store")]) == 50
    assert f"{bad} is no HDF5 file (it begins with {content[:8]!r})" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_two_files_of_one_name_are_not_pushed_over_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.h5").write_bytes(HDF5_SIGNATURE + folder.encode())
    files = [str(tmp_path / folder / "w.h5") for folder in ("a", "b")]
    assert main(["push", *files, "--weights", "--store", str(tmp_path / "store")]) == 20
    assert "two of the files are called w.h5" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    assert main(["push", files[0], "--weights", "--store", str(tmp_path / "store")]) == 0
    assert main(["push", files[0], "--weights", "--store", str(tmp_path / "store")]) == 0
    assert "weights/w.h5 is there and is replaced" in capsys.readouterr().err


def test_pull_refuses_the_manifest_of_another_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(directory_store(tmp_path / "store"))
    data, key = to_json(pulled(store)), generate_key()
    store.put("models/local/note/v4/manifest.json", data)
    store.put("models/local/note/v4/manifest.dsse.json", sign(data, key.private_pem))
    (tmp_path / "key.pub").write_bytes(key.public_pem)
    pull = ["pull", "note-v4", "--store", str(tmp_path / "store"), "--public-key", str(tmp_path / "key.pub")]
    assert main(pull) == 50
    assert "is the manifest of local/note-v3" in capsys.readouterr().err


def test_pull_takes_only_what_the_given_key_signed(tmp_path: Path) -> None:
    store = open_store(directory_store(tmp_path / "store"))
    data = to_json(pulled(store))
    store.put("models/local/note/v3/manifest.json", data)
    mine, other = generate_key(), generate_key()
    (tmp_path / "mine.pub").write_bytes(mine.public_pem)
    pull = ["pull", "note-v3", "--store", str(tmp_path / "store"), "--to", str(tmp_path / "got")]
    signed = [*pull, "--public-key", str(tmp_path / "mine.pub")]
    assert main(signed) == 20
    store.put("models/local/note/v3/manifest.dsse.json", sign(data, other.private_pem))
    assert main(signed) == 51
    assert not (tmp_path / "got").exists()
    store.put("models/local/note/v3/manifest.dsse.json", sign(data, mine.private_pem))
    assert main(signed) == 0


def pulled(store: Store) -> Manifest:
    """The manifest of note-v3, whose bundle is put into the store."""
    blob = store.put(f"blobs/sha256/{'b' * 64}", b"bundle")
    digest = hashlib.sha256(b"bundle").hexdigest()
    return Manifest(
        namespace="local",
        model="note",
        version=3,
        sequence=3,
        created_at="2027-01-09T19:12:00Z",
        run=RunRef("local", "note", "uid"),
        input=ModelInput(320, 320),
        labels=("note",),
        thresholds=(0.5,),
        files=(ManifestFile(Role.BUNDLE, "model.tar.gz", blob.key, digest, blob.size),),
        edgetpu=EdgeTpu(compiled=False),
    )
