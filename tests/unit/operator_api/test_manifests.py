"""Files, folders and samples."""

from pathlib import Path

import pytest

from atoll_operator.api.manifests import read_files, read_text

SAMPLES = Path(__file__).parents[3] / "crds" / "samples"
RUN = """apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: {name: note}
spec:
  datasets: [{key: a.tar}]
  publish: {model: note}
"""
SWEEP = """apiVersion: atoll.dev/v1alpha1
kind: TrainingSweep
metadata: {name: ball}
spec:
  template:
    spec:
      datasets: [{key: a.tar}]
      publish: {model: ball}
      training: {steps: 100}
  parameters:
    - {name: width, values: ["0.35", "1.0"]}
    - {name: batchSize, values: ["8", "16"]}
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\n"


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_sample_is_valid(path: Path) -> None:
    reading = read_files([path])
    assert [str(problem) for problem in reading.problems] == []
    assert all(manifest.is_atoll for manifest in reading.manifests)


def test_there_is_a_sample_of_every_kind() -> None:
    kinds = {manifest.kind for manifest in read_files([SAMPLES]).manifests}
    assert kinds == {"TrainingRun", "TrainingSweep", "ObjectStore", "TrainingProfile", "ModelRelease", "EdgeDevice"}


def test_problems_have_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"{SECRET}---\n{RUN}  training:\n    steps: 0\n", encoding="utf-8")
    (problem,) = read_files([file]).problems
    assert str(problem) == (
        f"{file}:12: TrainingRun/note: spec.training.steps: Invalid value: 0: should be greater than or equal to 1"
    )


@pytest.mark.parametrize(
    ("right", "wrong", "line", "says"),
    [
        ("steps: 100", "stepz: 100", 9, 'unknown field "spec.template.spec.training.stepz"'),
        ("steps: 100", "steps: 0", 9, "Invalid value: 0"),
        ("{model: ball}", "{}", 8, "Required value"),
        ('"16"', '"100000"', 12, "Invalid value: 100000"),
        ('"0.35"', '"wide"', 11, "wide"),
    ],
)
def test_the_template_of_a_sweep_is_checked_as_its_runs_are(right: str, wrong: str, line: int, says: str) -> None:
    assert SWEEP.count(right) == 1
    (sweep,) = read_text(SWEEP, source="x")
    assert sweep.problems == ()
    (changed,) = read_text(SWEEP.replace(right, wrong), source="x")
    (problem,) = changed.problems
    assert (problem.line, problem.object) == (line, "TrainingSweep/ball")
    assert says in str(problem)


def test_other_objects_are_kept_unchecked() -> None:
    secret, run = read_text(f"{SECRET}---\n{RUN}", source="x")
    assert (secret.title, secret.is_atoll, secret.value["kind"]) == ("Secret/s3", False, "Secret")
    assert (run.title, run.is_atoll, run.namespace) == ("TrainingRun/note", True, None)
    assert run.value["spec"]["suspend"] is False


def test_an_object_that_is_there_twice(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RUN, encoding="utf-8")
    (tmp_path / "b.yml").write_text(f"---\n{RUN}", encoding="utf-8")
    (tmp_path / "c.txt").write_text("not: read", encoding="utf-8")
    (problem,) = read_files([tmp_path]).problems
    assert str(problem).startswith(f"{tmp_path / 'b.yml'}:2: TrainingRun/note: is in {tmp_path / 'a.yaml'}:1 already")


def test_the_same_name_in_two_namespaces_is_two_objects() -> None:
    other = RUN.replace("name: note}", "name: note, namespace: other}")
    manifests = read_text(f"{RUN}---\n{other}", source="x")
    assert [manifest.problems for manifest in manifests] == [(), ()]


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "tab.yaml").write_text("a:\n\tb: 1\n", encoding="utf-8")
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    names = ["tab.yaml", "bytes.yaml", "empty.yaml", "absent.yaml"]
    said = [str(problem) for problem in read_files([tmp_path / name for name in names]).problems]
    assert [line.removeprefix(f"{tmp_path}/")[:40] for line in said] == [
        line[:40]
        for line in (
            "tab.yaml:2: a tab where YAML wants spaces",
            "bytes.yaml:1: not UTF-8 text (byte 3); name a",
            "empty.yaml:1: there is no object in it",
            "absent.yaml: cannot be read: No such file or directory",
        )
    ]


def test_a_document_that_is_no_object() -> None:
    (manifest,) = read_text("- a\n- b\n", source="x")
    assert [str(problem) for problem in manifest.problems] == [
        'x:1: object: Invalid value: "array": an object must be a mapping with apiVersion, kind, metadata and spec'
    ]
