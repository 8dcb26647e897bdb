"""Which runs of one name are the same: by their settings and by what their keys hold, wherever the store is."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_cli.local.state import RunFolder, RunRecord, read_record, write_record
from atoll_cli.main import main
from atoll_contract.document import replace
from atoll_contract.errors import SpecError
from atoll_operator.api.status import Phase
from support.noop_run import RUN, NoopRun
from support.polling import wait_until

pytestmark = pytest.mark.timeout(300)
KEY = "datasets/local/pictures.tar"


@pytest.fixture
def noop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NoopRun]:
    """A run that has failed in training on `pictures.tar`, and would succeed now."""
    monkeypatch.setenv("NOOP_PLAN", str(tmp_path))
    run = NoopRun(tmp_path, RUN.replace("spec:", "spec:\n  training: { steps: 60 }"))
    (tmp_path / "pictures.tar").write_bytes(b"pictures")
    run.plan(train={"fail": "TrainingDiverged", "times": 1})
    assert run.launch(data=(tmp_path / "pictures.tar",)).status.phase is Phase.FAILED
    yield run
    wait_until(lambda: not run.processes(), what="the end of every process of the run", timeout_seconds=60)


def record_of(noop: NoopRun) -> RunRecord:
    record = read_record(RunFolder(noop.store, "local", "noop"))
    assert record is not None
    return record


def as_of_an_earlier_version(noop: NoopRun) -> None:
    """Such a record has neither stores nor digests, and an identity that nothing can be read from."""
    known = replace(record_of(noop), stores=None, inputs=None, signing_key=None, identity="0" * 64)
    write_record(RunFolder(noop.store, "local", "noop"), known)


def goes_on(noop: NoopRun, *data: Path) -> bool:
    return noop.launch(data=data).status.phase is Phase.SUCCEEDED and noop.calls().count("convert") == 1


@pytest.mark.parametrize("earlier", [False, True])
def test_the_archive_may_be_left_out_or_lie_elsewhere(noop: NoopRun, tmp_path: Path, earlier: bool) -> None:
    if earlier:
        as_of_an_earlier_version(noop)
    assert goes_on(noop)
    (tmp_path / "moved").mkdir()
    assert goes_on(noop, (tmp_path / "pictures.tar").rename(tmp_path / "moved/pictures.tar"))


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_the_store_may_be_moved_or_copied(noop: NoopRun, tmp_path: Path, earlier: bool, move: object) -> None:
    if earlier:
        as_of_an_earlier_version(noop)
    assert callable(move)
    move(noop.store, tmp_path / "elsewhere")
    noop.store = tmp_path / "elsewhere"
    assert goes_on(noop)


@pytest.mark.parametrize("earlier", [False, True])
def test_another_archive_is_refused_and_leaves_the_store_as_it_is(noop: NoopRun, tmp_path: Path, earlier: bool) -> None:
    if earlier:
        as_of_an_earlier_version(noop)
    (tmp_path / "pictures.tar").write_bytes(b"others")
    with pytest.raises(SpecError, match=f"what {KEY} holds: sha256 [0-9a-f]{{12}} → sha256 [0-9a-f]{{12}}; "):
        noop.launch(data=(tmp_path / "pictures.tar",))
    assert (noop.store / KEY).read_bytes() == b"pictures"
    assert goes_on(noop)


def test_another_archive_under_the_key_is_noticed_without_data(noop: NoopRun) -> None:
    (noop.store / KEY).write_bytes(b"others")
    with pytest.raises(SpecError, match=f"what {KEY} holds"):
        noop.launch()
    assert noop.launch(rerun=True).status.phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("steps: 60", "steps: 61", "spec.training.steps: 60 → 61"),
        ("steps: 60", "steps: 60, seed: 7", "spec.training.seed: 0 → 7"),
        ("model: noop", "model: other", "spec.publish.model: noop → other"),
        (KEY, "datasets/local/b.tar", f"spec.datasets[0].key: {KEY} → datasets/local/b.tar"),
        ("model: noop", "model: noop, channel: beta", "spec.publish.channel: stable → beta"),
        ("steps: 60", "steps: 60, earlyStopping: { patience: 3 }", "spec.training.earlyStopping: nothing → "),
        (
            "spec:",
            "spec:\n  conversion: { classes: [a] }",
            'spec.conversion.classes: [] → ["a"]',
        ),
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_the_setting_that_differs_is_named(noop: NoopRun, earlier: bool, old: str, new: str, told: str) -> None:
    if earlier:
        as_of_an_earlier_version(noop)
    noop.file.write_text(noop.text.replace(old, new))
    with pytest.raises(SpecError) as caught:
        noop.launch()
    assert f" already: {told}" in caught.value.message
    assert caught.value.message.count("→") == 1


def test_what_may_change_on_a_run_makes_no_other_run(noop: NoopRun) -> None:
    noop.file.write_text(f"{noop.text}  runPolicy: {{ activeDeadlineSeconds: 600 }}\n")
    assert goes_on(noop)


def test_the_line_to_type_is_told(noop: NoopRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noop.file.write_text(noop.text.replace("steps: 60", "steps: 61"))
    data = tmp_path / "pictures.tar"
    command = ["run", "-f", str(noop.file), "--data", str(data), "--store", str(noop.store)]
    assert main(command) == 20
    assert f"; atoll {' '.join(command)} --rerun starts it anew" in capsys.readouterr().err


def test_a_store_of_another_kind_is_another_run(noop: NoopRun) -> None:
    noop.file.write_text(
        f"{noop.text}---\napiVersion: atoll.dev/v1alpha1\nkind: ObjectStore\nmetadata: {{ name: default }}\n"
        "spec: { bucket: frc, endpoint: 'http://127.0.0.1:9', credentials: { anonymous: true } }\n"
    )
    with pytest.raises(SpecError, match="ObjectStore default: a folder → bucket frc/"):
        noop.launch()


def test_a_key_that_held_nothing_may_be_filled(noop: NoopRun, tmp_path: Path) -> None:
    (noop.store / KEY).unlink()
    noop.plan(convert={"fail": "DatasetNotFound", "times": 2})
    assert noop.launch(rerun=True).status.phase is Phase.FAILED
    assert record_of(noop).inputs == {}
    noop.plan()
    assert noop.launch(data=(tmp_path / "pictures.tar",)).status.phase is Phase.SUCCEEDED
    assert list(record_of(noop).inputs or ()) == [f"default/{KEY}"]


def test_a_new_archive_in_the_folder_of_a_data_set_is_another_run_only_if_it_is_given(
    noop: NoopRun, tmp_path: Path
) -> None:
    noop.file.write_text(noop.text.replace(KEY, "datasets/local/"))
    noop.plan(train={"fail": "TrainingDiverged", "times": 2})
    assert noop.launch(rerun=True).status.phase is Phase.FAILED
    (tmp_path / "more.tar").write_bytes(b"more")
    with pytest.raises(SpecError, match=r"datasets/local/more\.tar: nothing → sha256 "):
        noop.launch(data=(tmp_path / "more.tar",))
    (noop.store / "datasets/local/pushed.tar").write_bytes(b"pushed")
    assert noop.launch().status.phase is Phase.SUCCEEDED


def test_the_report_is_found_although_the_results_went_elsewhere(
    noop: NoopRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["report", "noop", "--store", str(noop.store), "--no-open"]
    assert main(command) == 20
    assert "has no report yet" in capsys.readouterr().err
    noop.launch(output=tmp_path / "results")
    path = noop.store / "results/noop/report.html"
    assert not path.exists()
    # As an earlier run of this name has left it.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("old")
    assert main(command) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_bytes() == (tmp_path / "results/report.html").read_bytes()
    assert main([*command, "--to", str(tmp_path / "mine.html")]) == 0
    assert (tmp_path / "mine.html").read_bytes() == path.read_bytes()
