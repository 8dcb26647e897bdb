"""The user's file, and the uploads before a run."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll_cli.local.runfile import InvalidFile, RunFile, read_run_file
from atoll_cli.local.uploads import dataset_key, dataset_upload, put_weights
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.stage import CompilePolicy
from atoll_contract.store import directory_store, open_store
from atoll_contract.store.base import Store
from support.archives import write_files

RUN = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: { name: note }
spec:
  datasets: [{ key: datasets/local/pictures.tar }]
  publish: { model: note }
"""
STORE = """
---
apiVersion: atoll.dev/v1alpha1
kind: ObjectStore
metadata: { name: default }
spec: { bucket: frc, endpoint: "http://127.0.0.1:9000", credentials: { secretRef: { name: s3 } } }
"""
PROFILE = """
---
apiVersion: atoll.dev/v1alpha1
kind: TrainingProfile
metadata: { name: default }
spec:
  images: { convert: "r.example/c@sha256:HEX", train: "r.example/c@sha256:HEX", publish: "r.example/c@sha256:HEX" }
  limits: { maxSteps: 100 }
""".replace("HEX", "0" * 64)


def read(tmp_path: Path, text: str, **changes: int) -> RunFile:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return read_run_file([path], store=tmp_path / "store", seed=changes.get("seed"))


def test_options_replace_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    run = read_run_file([path], store=tmp_path / "store", seed=7, max_invalid_percent=12.5)
    assert run.spec.training.seed == 7
    assert run.spec.conversion.max_invalid_percent == 12.5
    assert run.document["spec"]["conversion"]["maxInvalidPercent"] == "12.5"


def test_workers_of_the_command_line_are_those_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    run = read_run_file([path], store=tmp_path / "store", workers=2)
    assert run.spec.training.workers == 2


def test_workers_that_cannot_share_the_batch_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN + "  training: { batchSize: 16 }\n")
    with pytest.raises(InvalidFile, match=r"--workers: .*batchSize must be a multiple of workers"):
        read_run_file([path], store=tmp_path / "store", workers=3)


def test_a_profile_of_the_user_says_how_many_workers_there_may_be(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(RUN + PROFILE)
    with pytest.raises(SpecError, match="2 workers exceed the 1 of TrainingProfile default"):
        read_run_file([path], store=tmp_path / "store", workers=2)


def test_objects_that_the_file_lacks_get_local_defaults(tmp_path: Path) -> None:
    run = read(tmp_path, RUN)
    assert (run.namespace, run.name) == ("local", "note")
    assert run.own_store.directory == tmp_path / "store"
    assert run.profile.limits.max_steps > 1000
    assert run.spec.compile[0].policy is CompilePolicy.BEST_EFFORT


def test_a_file_may_have_several_documents(tmp_path: Path) -> None:
    run = read(tmp_path, RUN.replace("publish:", "training: { steps: 50 }\n  publish:") + STORE + PROFILE)
    assert run.own_store.bucket == "frc"
    assert run.own_store.directory is None
    assert run.profile.limits.max_steps == 100


def test_a_folder_may_stand_in_for_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    annotated = STORE.replace("{ name: default }", "{ name: default, annotations: { atoll.dev/directory: ./here } }")
    assert read(tmp_path, RUN + annotated).own_store.directory == tmp_path / "here"


def test_a_run_beyond_the_limits_of_its_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="1000 training steps exceed the 100"):
        read(tmp_path, RUN.replace("publish:", "training: { steps: 1000 }\n  publish:") + PROFILE)
    # Without steps the train stage chooses them within the limit.
    assert read(tmp_path, RUN + PROFILE).spec.training.steps is None


def test_a_seed_of_the_command_line_replaces_the_files(tmp_path: Path) -> None:
    assert read(tmp_path, RUN, seed=7).spec.training.seed == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RUN.replace("publish:", "publsh:"), "publish"),
        (RUN + "---" + RUN.replace("name: note", "name: other"), "2 TrainingRuns"),
        (STORE.lstrip("-\n"), "0 TrainingRuns"),
        ("a: [", "run.yaml:1"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=r"(?s).*" + message):
        read(tmp_path, text)


def test_every_problem_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(tmp_path, RUN.replace("publish: { model: note }", "publish: { model: Note, chanel: x }"))
    assert len(caught.value.lines) >= 2


def test_data_goes_where_the_run_reads_it(tmp_path: Path) -> None:
    run = read(tmp_path, RUN)
    store = open_store(directory_store(tmp_path / "store"))
    archive = tmp_path / "pictures.tar"
    archive.write_bytes(b"pictures")
    messages: list[str] = []
    first = put(run, store, archive, messages.append)
    assert store.get("datasets/local/pictures.tar") == b"pictures"
    assert put(run, store, archive, messages.append) == first
    assert len(messages) == 1
    archive.write_bytes(b"PICTURES")
    put(run, store, archive, messages.append)
    assert store.get("datasets/local/pictures.tar") == b"PICTURES"


def put(run: RunFile, store: Store, archive: Path, notify: Callable[[str], None]) -> str:
    """Store the archive as `atoll run --data` does; its sha256."""
    with dataset_upload(run, store, archive) as upload:
        upload.put(notify)
        return upload.sha256


def test_the_only_data_set_of_a_run_takes_any_file_name(tmp_path: Path) -> None:
    assert dataset_key(read(tmp_path, RUN), Path("other.tar")) == "datasets/local/pictures.tar"


def test_a_folder_of_archives_takes_what_lies_below_it(tmp_path: Path) -> None:
    run = read(tmp_path, RUN.replace("pictures.tar", ""))
    assert dataset_key(run, Path("x.tar")) == "datasets/local/x.tar"


def test_data_that_the_run_does_not_read_is_refused(tmp_path: Path) -> None:
    run = read(tmp_path, RUN.replace("[{ key", "[{ key: datasets/local/b.tar }, { key"))
    with pytest.raises(SpecError, match=r"none of these is a file called x\.tar"):
        dataset_key(run, Path("x.tar"))


def test_a_folder_is_put_as_a_tar_of_its_name(tmp_path: Path) -> None:
    run = read(tmp_path, RUN)
    store = open_store(directory_store(tmp_path / "store"))
    folder = write_files({"a.txt": b"1", "b/c.txt": b"2", "Thumbs.db": b"litter"}, tmp_path / "pictures")
    messages: list[str] = []
    first = put(run, store, folder, messages.append)
    with tarfile.open(fileobj=io.BytesIO(store.get("datasets/local/pictures.tar"))) as archive:
        assert archive.getnames() == ["a.txt", "b/c.txt"]
    (folder / "a.txt").touch()
    assert put(run, store, folder, messages.append) == first
    assert messages == [f"putting {folder} into {store.url} as datasets/local/pictures.tar"]
    with pytest.raises(SpecError, match="holds the store"):
        put(run, store, tmp_path, print)


def test_missing_files_are_named(tmp_path: Path) -> None:
    run = read(tmp_path, RUN)
    store = open_store(directory_store(tmp_path / "store"))
    with pytest.raises(AtollError, match="does not exist"):
        put(run, store, tmp_path / "none.tar", print)
    with pytest.raises(AtollError, match="no file"):
        put_weights(store, tmp_path / "none.h5", print)


def test_weights_are_stored_by_name(tmp_path: Path) -> None:
    store = open_store(directory_store(tmp_path / "store"))
    weights = tmp_path / "start.weights.h5"
    weights.write_bytes(b"w")
    put_weights(store, weights, print)
    assert store.get("weights/start.weights.h5") == b"w"
