"""What `atoll validate` advises: each mistake that people make has a line, and one line alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll_cli.main import main
from atoll_operator.api.manifests import read_text
from atoll_operator.api.yaml import YamlError, read_documents

RUN = """apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: {name: note}
spec:
  datasets:
    - key: my.tar
  publish: {model: note}
"""
AP50 = 'is an AP50 in quotes, "0" to "1"; for 50 percent write "0.5"'
DISK = "a key names an archive in the store and no path on a disk"
EPOCHS = "Atoll counts steps: steps = epochs x pictures / batchSize"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (f"{RUN}  model: {{width: 0.5}}\n", 'put it in quotes: "0.5"'),
        (f"{RUN}  training: {{steps: many}}\n", "write a whole number from 1 to 10000000"),
        (f'{RUN}  training: {{steps: "500"}}\n', "write it without quotes"),
        (f"{RUN}  suspend: 'later'\n", "write true or false, without quotes"),
        (f"{RUN}  training: {{initFrom: random}}\n", "it has fields of its own: write { type: random }"),
        (f"{RUN}  training: steps:5\n", 'a blank follows the colon: write "steps: 5"'),
        (f"{RUN}  conversion: {{ignore: robot}}\n", "it is a list: write [robot]"),
        (
            RUN.replace("\n    - key: my.tar", " my.tar"),
            'it is a list: write "- key: my.tar" in a line below',
        ),
        (RUN.replace("- key: my.tar", "- my.tar"), "it has fields of its own: write { key: my.tar }"),
        (RUN.replace("{model: note}", "note"), "it has fields of its own: write { model: note }"),
        (f'{RUN}  quality: {{minAP50: "60%"}}\n', AP50),
        (
            f"{RUN}  conversion: {{split: {{train: 80, validation: 20, test: 10}}}}\n",
            "train 80 + validation 20 + test 10 is 110",
        ),
        (
            f"{RUN}  conversion: {{split: {{train: 0.8, validation: 10, test: 10}}}}\n",
            "it is a percentage: write 80",
        ),
        (f"{RUN}  training: {{epochs: 50}}\n", EPOCHS),
        (f"{RUN}  epochs: 50\n", EPOCHS),
        (RUN.replace("name: note", "name: “note”"), "the quotes “” are typographic and become a part of the text"),
        (f"{RUN}  “suspend”: true\n", "the quotes “” are typographic"),
        (RUN.replace("my.tar", r"C:\data\my.tar"), DISK),
        (RUN.replace("my.tar", "/pictures/my.tar"), DISK),
        (RUN.replace("my.tar", "../my.tar"), DISK),
    ],
)
def test_one_mistake_is_one_line_with_what_to_write(text: str, advice: str) -> None:
    (manifest,) = read_text(text, source="run.yaml")
    (problem,) = manifest.problems
    assert problem.problem.advice.startswith(advice)
    shown = str(problem)
    assert advice in shown
    assert "should match" not in shown
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (f"{RUN}  training:\n      steps: 5\n    batchSize: 4\n", 10, "this line begins in column 5, and the list or"),
        (RUN.replace("  publish", " publish"), 7, "this line begins in column 2, and the list or mapping"),
        (f"{RUN}  training:\n    steps 5\n    batchSize: 4\n", 9, 'there is no ":" after steps; write "steps: 5"'),
        (
            RUN.replace("kind: TrainingRun", "kind TrainingRun"),
            2,
            'there is no ":" after kind; write "kind: TrainingRun"',
        ),
        (f"{RUN}\ttraining: {{steps: 5}}\n", 8, "a tab where YAML wants spaces"),
        (f"{RUN}  training: a: b\n", 8, "mapping values are not allowed here; quote the text"),
    ],
)
def test_what_is_no_yaml_is_told_on_its_own_line(text: str, line: int, message: str) -> None:
    with pytest.raises(YamlError) as raised:
        read_documents(text)
    assert raised.value.line == line
    assert raised.value.message.startswith(message)
    assert "<block" not in raised.value.message


def test_a_folder_without_manifests_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path)]) == 20
    assert capsys.readouterr().out.startswith(f"{tmp_path}: the folder holds no .yaml, .yml or .json file")


def test_objects_of_other_kinds_alone_are_not_called_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n")
    assert main(["validate", str(tmp_path)]) == 20
    assert "none of the objects is one of Atoll's" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["validate", "submit", "run"])
def test_a_file_that_is_not_there_is_wrong_usage(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)
    assert main([command, "runn.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no file runn.yaml; did you mean run.yaml?\n")
