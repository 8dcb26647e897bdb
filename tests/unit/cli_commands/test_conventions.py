"""What all commands have in common: formats, paths, files, names, help and mistakes."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from atoll_cli.command_table import COMMANDS, SYNONYMS, CommandGroup
from atoll_cli.commands.push import HDF5_SIGNATURE
from atoll_cli.main import cli, main
from atoll_cli.output import CHOICES, to_yaml
from atoll_operator.api.yaml import read_documents

# They print no list and make nothing: a log, a page until Ctrl-C, a script for a shell, a help.
WITHOUT_FORMAT = {"logs", "ui", "completion", "help"}
ROOT = Path(__file__).parents[3]


def command_of(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def options_of(name: str) -> dict[str, click.Option]:
    """Every spelling of every option of the command."""
    options = [item for item in command_of(name).params if isinstance(item, click.Option)]
    return {spelling: option for option in options for spelling in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITHOUT_FORMAT))
def test_what_lists_or_makes_something_has_a_format(name: str) -> None:
    options = options_of(name)
    assert options["-o"] is options["--output"]
    assert options["-o"].metavar == "FORMAT"
    assert options["--json"].hidden


@pytest.mark.parametrize("name", sorted(WITHOUT_FORMAT))
def test_the_other_commands_use_the_letter_for_nothing_else(name: str) -> None:
    assert not {"-o", "--output", "--json"} & set(options_of(name))


def test_a_path_to_write_to_has_one_name() -> None:
    """`--to` alone takes a path that a command writes; every other option with a path reads it or names the store."""
    read = {"-f", "--filename", "--data", "--weights", "--labels", "--store", "--kubeconfig"}
    read |= {"--signing-key", "--public-key", "--from"}
    for name in COMMANDS:
        paths = {
            spelling
            for spelling, option in options_of(name).items()
            if isinstance(option.type, click.Path) or option.metavar in ("FILE", "DIR")
        }
        assert paths <= read | {"--to"}, name


def test_a_letter_means_the_same_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for name in COMMANDS:
        for option in {id(item): item for item in options_of(name).values()}.values():
            letters = [item for item in option.opts if not item.startswith("--")]
            words = [item for item in option.opts if item.startswith("--")]
            for letter in letters:
                meanings.setdefault(letter, set()).add(words[0])
    # kubectl, too, has -f for a file, and for follow in `logs`.
    assert meanings.pop("-f") == {"--filename", "--follow"}
    assert {letter: words for letter, words in meanings.items() if len(words) > 1} == {}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_example_in_the_help_is_one_that_the_command_takes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert f"Example: atoll {name} " in result.output
    words = shlex.split(COMMANDS[name].example)
    monkeypatch.chdir(tmp_path)
    for word in words:
        if word.endswith((".tar", ".mp4", ".yaml", ".pem")):
            Path(word).touch()
    command_of(name).make_context(name, words)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_what_a_program_logs_may_be_asked_for_after_the_command(name: str) -> None:
    assert options_of(name)["-v"] is options_of(name)["--verbose"]


def help_lines(words: list[str], columns: int) -> list[str]:
    # click leaves two columns of a terminal free.
    return CliRunner().invoke(cli, [*words, "--help"], terminal_width=columns - 2).output.splitlines()


def test_the_help_fits_a_screen_and_sorts_by_place() -> None:
    """24 lines of 80 columns, the last of which is the next prompt."""
    lines = help_lines([], 80)
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    headings = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == [group for group in CommandGroup if group is not CommandGroup.PROGRAM]
    for name, info in COMMANDS.items():
        shown = [number for number, line in enumerate(lines) if f"  {name:<10}  {info.summary}" in line]
        if info.group is CommandGroup.PROGRAM:
            assert name in lines[-2]
        else:
            assert len(shown) == 1, name
            assert [line for line in lines[: shown[0]] if line.endswith(":")][-1] == f"{info.group}:", name


def test_each_command_of_the_help_has_words_of_its_own() -> None:
    summaries = [info.summary for info in COMMANDS.values() if info.group is not CommandGroup.PROGRAM]
    assert all(summaries)
    assert len(set(summaries)) == len(summaries)


@pytest.mark.parametrize(("columns", "beside"), [(50, 1), (80, 2), (100, 2)])
def test_the_help_is_as_wide_as_the_terminal(columns: int, beside: int) -> None:
    lines = help_lines([], columns)
    assert max(map(len, lines)) <= columns
    (first,) = [line for line in lines if line.startswith("  new ")]
    assert sum(f"  {info.summary}" in first for info in COMMANDS.values() if info.summary) == beside


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_help_of_a_command_fits_a_screen_and_a_half(name: str) -> None:
    lines = help_lines([name], 80)
    assert len(lines) <= 37
    assert max(map(len, lines)) <= 80


def test_without_arguments_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["help"]) == 0
    assert capsys.readouterr().out == alone
    assert main(["help", "run"]) == 0
    by_name = capsys.readouterr().out
    assert main(["run", "--help"]) == 0
    assert capsys.readouterr().out == by_name
    assert by_name.startswith("Usage: atoll run [OPTIONS] [FILE]...")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["trian"], """there is no command 'trian'; did you mean "run"?"""),
        (["statsu"], """there is no command 'statsu'; did you mean "status"?"""),
        (["predict"], """there is no command 'predict'; did you mean "test-video"?"""),
        (["help", "puhs"], """there is no command 'puhs'; did you mean "push"?"""),
        (["qqqq"], "there is no command 'qqqq'"),
        (["--verion"], "there is no option --verion; did you mean --version?"),
        (["run", "--stor", "x"], "there is no option --stor; did you mean --store?"),
        (["report"], "missing argument 'RUN'"),
        (["retry", "note", "--stage", "trian"], "invalid value for '--stage': 'trian' is not one of"),
        (["releases", "-o", "jsno"], "invalid value for -o: 'jsno' is no format; write json, yaml, wide or name"),
        (["releases", "-A", "-n", "team"], "-n team names one namespace, -A all; give one of them"),
        (["frames", "."], "--to DIR is missing: A new or empty folder"),
    ],
)
def test_wrong_usage_is_one_sentence_and_a_hint(
    typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == 2
    printed = capsys.readouterr()
    error, hint = printed.err.splitlines()
    assert error.startswith(f"error: {message}")
    assert hint.startswith("hint: atoll ")
    assert hint.endswith(" --help says what it takes")
    assert printed.out == ""


def test_synonyms_lead_to_commands() -> None:
    assert set(SYNONYMS.values()) <= set(COMMANDS)
    assert not set(SYNONYMS) & set(COMMANDS)


@pytest.mark.parametrize("format_", CHOICES)
def test_a_key_pair_in_every_format(
    format_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["keygen", "key.pem", "-o", format_]) == 0
    printed = capsys.readouterr().out
    files = ("key.pem", "key.pem.pub")
    if format_ == "name":
        assert printed.split() == list(files)
    elif format_ == "wide":
        assert printed.startswith("private key: key.pem\n")
    else:
        document = json.loads(printed) if format_ == "json" else yaml.safe_load(printed)
        assert (document["privateKey"], document["publicKey"]) == files


def test_a_push_prints_its_keys_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.weights.h5"
    file.write_bytes(HDF5_SIGNATURE)
    push = ["push", str(file), "--weights", "--store", str(tmp_path / "store")]
    assert main([*push, "-o", "json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["key"], entry["uploaded"]) == ("weights/own.weights.h5", True)
    assert main([*push, "-o", "name"]) == 0
    assert capsys.readouterr().out == "weights/own.weights.h5\n"


def test_a_path_after_the_letter_is_still_taken_and_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "films").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "frames.json").touch()
    (tmp_path / "films" / "a.mp4").write_bytes(b"no film")
    assert main(["frames", "films", "-o", "old"]) == 20
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: -o old is taken as --to old; ")
    assert error == "error: --to old: the folder is not empty; name a new one"
    assert main(["frames", "films", "-o", "old", "--to", "new"]) == 2
    assert "'old' is no format" in capsys.readouterr().err
    assert main(["frames", "films", "-o", "yaml", "--json", "--to", "new"]) == 2
    assert "two formats" in capsys.readouterr().err


def test_a_file_is_an_argument_or_an_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = str(ROOT / "crds/samples/trainingrun-reefscape.yaml")
    store = str(ROOT / "crds/samples/objectstore-minio.yaml")
    answers = []
    for arguments in ([sample, store], ["-f", sample, "-f", store], [sample, "-f", store]):
        assert main(["validate", *arguments]) == 0
        answers.append(capsys.readouterr().out)
    assert len(set(answers)) == 1
    assert answers[0].count(": valid\n") == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(sample).read_bytes())))
    assert main(["validate", "-"]) == 0


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert name == "atoll"
    assert main(["version", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == version
    assert main(["version", "-o", "name"]) == 0
    assert capsys.readouterr().out == f"{version}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert f"_ATOLL_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_yaml_reads_back_as_it_was_for_kubectl() -> None:
    texts = [
        "1e3",
        "0o17",
        "1_000",
        "yes",
        "on",
        "~",
        "null",
        "",
        "2027-01-09",
        ".inf",
        "a: b",
        "#x",
        "- y",
        "ümlaut",
        "0x1F",
        "<<",
    ]
    shared = ["twice"]
    document = {
        "texts": texts,
        "numbers": [1, 2.5, True, None],
        "a": shared,
        "b": shared,
        **dict.fromkeys(texts, "key"),
    }
    (read,) = read_documents(to_yaml(document))
    assert read.value == document
