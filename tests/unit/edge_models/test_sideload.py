"""The import of bundles, the commands that change the device's model, and the self-test."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from atoll_contract.labelmap import format_label_map
from atoll_edge.cli import main
from atoll_edge.models.bundle import BundleError, unpack
from atoll_edge.models.release_state import Refusal
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.sideload import import_bundle
from support.edge_model import LABELS, colour_detector

pytestmark = pytest.mark.timeout(300)

PBTXT = format_label_map(LABELS).encode()
COMPILED = b"\x1c\0\0\0TFL3" + b"edgetpu-custom-op" + b"\0" * 64


def tarball(path: Path, **members: bytes) -> Path:
    """A tarball whose members are named by the keywords, `_` for the last dot."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(".".join(name.rsplit("_", 1)))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_atolls_bundle_is_verified_and_pinned(tmp_path: Path, device: ReleaseStore) -> None:
    bundle = tarball(tmp_path / "note.tar.gz", unoptimized_tflite=colour_detector(), map_pbtxt=PBTXT)
    release, name = import_bundle(bundle, device)
    state = device.read()
    assert (state.candidate, state.pinned, name) == (release, release, "note-v0")
    served = device.model_spec(release, device.check(release))
    assert (served.labels, served.thresholds) == (LABELS, (0.5, 0.5))
    assert served.edgetpu_path is None


def test_axons_tarball_keeps_both_models(tmp_path: Path, device: ReleaseStore) -> None:
    bundle = tarball(
        tmp_path / "axon.tar.gz", model_tflite=COMPILED, unoptimized_tflite=colour_detector(), map_pbtxt=PBTXT
    )
    release, _ = import_bundle(bundle, device)
    served = device.model_spec(release, device.check(release))
    assert served.edgetpu_path is not None
    assert served.edgetpu_path.read_bytes() == COMPILED


def test_corals_list_of_names_stands_for_a_missing_label_map(tmp_path: Path, device: ReleaseStore) -> None:
    bundle = tarball(
        tmp_path / "note.tar.gz", unoptimized_tflite=colour_detector(), labels_txt=b"0  red\r\n1  blue\r\n"
    )
    release, _ = import_bundle(bundle, device)
    assert device.model_spec(release, device.check(release)).labels == LABELS
    both = tarball(tmp_path / "b.tar.gz", unoptimized_tflite=b"x", map_pbtxt=PBTXT, labels_txt=b"other\n")
    assert unpack(both, tmp_path / "both").labels == LABELS


def test_a_model_that_was_never_compiled_runs_on_the_cpu_whatever_its_name(tmp_path: Path) -> None:
    path = tarball(tmp_path / "coral.tar.gz", model_tflite=colour_detector(), map_pbtxt=PBTXT)
    bundle = unpack(path, tmp_path / "unpacked")
    assert bundle.edgetpu_path is None
    assert bundle.cpu_path is not None


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"map_pbtxt": PBTXT}, "lacks a model or its labels"),
        ({"unoptimized_tflite": b"x"}, "lacks a model or its labels"),
        ({"unoptimized_tflite": b"x", "map_pbtxt": b"item {"}, "label map line"),
        ({"unoptimized_tflite": b"x", "labels_txt": b"0 a\nb"}, "labels.txt: line 2 is no number and name"),
        ({"unoptimized_tflite": b"x", "map_pbtxt": b'item { id: 2 name: "a" }'}, "ids must be 1, 2, 3"),
        ({"model_tflite": COMPILED, "map_pbtxt": PBTXT}, "cannot be tried before it serves|without it the model"),
    ],
)
def test_what_is_no_bundle_is_refused(
    tmp_path: Path, device: ReleaseStore, members: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(BundleError, match=reason):
        import_bundle(tarball(tmp_path / "b.tar.gz", **members), device)
    assert device.read().candidate is None


def test_a_bundle_that_fails_its_self_test_is_refused(tmp_path: Path, device: ReleaseStore) -> None:
    bundle = tarball(tmp_path / "b.tar.gz", unoptimized_tflite=b"no model", map_pbtxt=PBTXT)
    with pytest.raises(Refusal, match="self-test"):
        import_bundle(bundle, device)
    assert device.read().candidate is None


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, device: ReleaseStore) -> None:
    (tmp_path / "b.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(BundleError, match=r"b\.tar\.gz cannot be unpacked"):
        import_bundle(tmp_path / "b.tar.gz", device)


def test_the_commands_change_the_store_that_the_agent_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state-dir", str(tmp_path / "device")]
    bundle = tarball(tmp_path / "note.tar.gz", unoptimized_tflite=colour_detector(), map_pbtxt=PBTXT)
    assert main(["import", str(bundle), *state]) == 0
    assert "serves next, pinned" in capsys.readouterr().out
    assert main(["unpin", *state]) == 0
    assert "pinned no" in capsys.readouterr().out
    assert main(["pin", *state]) == 2
    assert "no model to pin" in capsys.readouterr().err
    assert main(["rollback", *state]) == 2
    assert "no earlier release" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "missing.tar.gz"), *state]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_status_without_an_agent_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("http: {port: 9}\n")
    assert main(["status", "--config", str(config)]) == 1
    assert "no agent answers" in capsys.readouterr().err


def test_the_self_test_runs_the_bundle_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tarball(tmp_path / "note.tar.gz", unoptimized_tflite=colour_detector(), map_pbtxt=PBTXT)
    options = ["--json", "--bundle", str(bundle), "--inferences", "5", "--state-dir", str(tmp_path / "device")]
    assert main(["selftest", *options]) == 0
    result = json.loads(capsys.readouterr().out)
    steps = {step["name"]: step for step in result["steps"]}
    assert (result["passed"], result["result"]) == (False, "incomplete")
    assert steps["inference-cpu"]["outcome"] == "passed"
    assert steps["inference-cpu"]["figures"]["inferences"] == 5
    assert steps["inference-edgetpu"]["outcome"] == "skipped"
