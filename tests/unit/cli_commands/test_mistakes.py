"""What users type or have wrong: a sentence each, on every command, and never a stack trace."""

from __future__ import annotations

import errno
import io
import os
import socket
import sys
from pathlib import Path
from unittest import mock

import click
import pytest

from atoll_cli.command_table import COMMANDS
from atoll_cli.main import cli, main
from atoll_cli.param_types import InputPath
from atoll_cli.store_access import explain_store_errors
from atoll_contract.errors import ExitCode
from atoll_contract.store import directory_store, open_store
from atoll_contract.store.base import StoreForbidden

ROOT = Path(__file__).parents[3]
RUN = (ROOT / "crds/samples/trainingrun-field.yaml").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store and a few files."""
    folder = tmp_path / "robot"
    (folder / "atoll-store").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ATOLL_STORE", raising=False)
    (folder / "my-export.tar").write_bytes(b"no archive at all")
    (folder / "run.yaml").write_text(RUN, encoding="utf-8")
    return folder


def reading() -> list[tuple[str, click.Parameter]]:
    """Each argument and option of a command that names a file to read."""
    found = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        found += [(name, item) for item in command.params if isinstance(item.type, InputPath)]
    return found


@pytest.mark.parametrize(("name", "parameter"), reading(), ids=lambda item: str(getattr(item, "name", item)))
def test_a_typo_in_a_file_name_is_answered_with_the_file(
    name: str, parameter: click.Parameter, capsys: pytest.CaptureFixture[str]
) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    required = [item for item in command.params if isinstance(item, click.Argument) and item.required]
    words = ["x" for item in required if item is not parameter]
    option = [parameter.opts[0]] if isinstance(parameter, click.Option) else []
    assert main([name, *words, *option, "my-exprot.tar"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: there is no file my-exprot.tar; did you mean my-export.tar?"
    assert hint == f"hint: atoll {name} --help says what it takes"


def test_every_command_that_reads_files_was_tried() -> None:
    commands = {name for name, _ in reading()}
    assert commands >= {"run", "sweep", "validate", "submit", "push", "compare", "frames", "test-video", "pull"}
    assert len(reading()) > 15


def test_a_missing_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "nowhere/a.tar"]) == 2
    assert "there is no file nowhere/a.tar; there is no folder nowhere either" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (RUN.encode("utf-16"), 'run.yaml:1: UTF-16 text, as ">" in PowerShell writes it; save it as UTF-8'),
        (RUN.encode("utf-16-be"), "run.yaml:1: "),
        ("# Größe".encode("latin-1"), "not UTF-8 text (byte 4); name a .yaml or .json file, saved as UTF-8"),
        (b"ustar\x00\xff\xfe", "not UTF-8 text (byte 6)"),
        (b"- a\n- b\n", "an object must be a mapping"),
        (b"hello", "an object must be a mapping"),
        (b"", "there is no object in it"),
        (b"kind: TrainingRun\n\tmetadata: {}\n", "a tab where YAML wants spaces"),
        (b"apiVersion: v1\nkind: Pod\nmetadata: { name: x }\n", "TrainingRun"),
        (b"{", "run.yaml:"),
        (b"a: &a [*a]\n", "run.yaml:"),
        (RUN.replace("name: field", "name: Größe mit Leerzeichen", 1).encode(), "metadata.name"),
        (RUN.replace("steps:", "stesp:", 1).encode(), 'did you mean "steps"'),
    ],
)
@pytest.mark.parametrize("command", ["validate", "run"])
def test_a_file_that_is_no_run(
    content: bytes, told: str, command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "run.yaml").write_bytes(content)
    assert main([command, "run.yaml"]) == ExitCode.INVALID_SPEC
    printed = capsys.readouterr()
    assert told in printed.out + printed.err


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + RUN.encode(), RUN.replace("\n", "\r\n").encode()])
def test_what_an_editor_on_windows_saves_is_read(content: bytes, here: Path) -> None:
    (here / "run.yaml").write_bytes(content)
    assert main(["validate", "run.yaml"]) == 0


def test_standard_input_is_utf_8_in_every_locale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"# gr\xc3\xb6\xc3\x9fer\n" + RUN.encode()), "ascii"))
    assert main(["validate", "-"]) == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RUN.encode("utf-16")), "utf-8"))
    assert main(["validate", "-"]) == ExitCode.INVALID_SPEC
    assert "UTF-16" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["keygen", "atoll-store"], "is a directory"),
        (["run", "run.yaml", "--store", "my-export.tar"], "my-export.tar"),
        (["status", "--store", "my-export.tar"], "my-export.tar"),
        (["sample", "field", "--to", "my-export.tar"], "my-export.tar"),
        (["sample", "feild"], "field"),
        (["sample", "field", "--size", "big"], "write 640x480"),
        (["sample", "field", "--pictures", "0"], "8<=x<=100000"),
        (["new", "my-export.tar", "--within", "soon"], "write 90s"),
        (["pull", "Nöte v1"], "is no release"),
        (["pull", "note-v1"], "there is no release note-v1 in "),
        (["status", "../../etc"], "../../etc"),
        (["report", "."], "."),
        (["logs", "field", "--stage", "trian"], "'train'"),
        (["compare", "a-v1", "b-v1"], "there is no release a-v1 in "),
        (["test-video", "note-v1", "my-export.tar", "--to", "my-export.tar"], "is a file"),
        (["ui", "--port", "99999"], "99999"),
        (["wait", "field", "--timeout", "-1"], "write 90s"),
        (["run", "run.yaml", "--workers", "0"], "1<=x<=16"),
        (["help", "nonsense"], "nonsense"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_a_wrong_value_is_named(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) not in (0, ExitCode.INTERNAL_ERROR)
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert told in printed
    assert "Traceback" not in printed


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
@pytest.mark.parametrize("arguments", [["validate", "run.yaml"], ["push", "my-export.tar"], ["new", "my-export.tar"]])
def test_a_file_that_may_not_be_read_is_named(
    arguments: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / arguments[1]).chmod(0)
    assert main(arguments) != 0
    assert arguments[1] in capsys.readouterr().err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) != 0
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert str(port) in printed


def test_a_folder_that_may_not_be_written_has_no_credentials() -> None:
    store = open_store(directory_store(Path("atoll-store")))
    refused = mock.patch("os.replace", side_effect=OSError(errno.EROFS, "Read-only file system"))
    linked = mock.patch("os.link", side_effect=OSError(errno.EROFS, "Read-only file system"))
    with refused, linked, pytest.raises(StoreForbidden) as raised, explain_store_errors(endpoint=None):
        store.put("datasets/local/a.tar", b"x")
    assert raised.value.message.endswith("Read-only file system; check the owner and mode of the folder")


def test_nothing_published_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["releases"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "no releases in atoll-store\n"
    assert main(["releases", "note"]) == 0
    assert capsys.readouterr().err == "no releases of model note in atoll-store\n"
    assert main(["releases", "-o", "json"]) == 0
    assert capsys.readouterr().out == "[]\n"
