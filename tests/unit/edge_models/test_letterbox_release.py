"""A device knows from the manifest, or from the file alone, that a model letterboxes, and tries it so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atoll_contract.document import from_json, to_json
from atoll_contract.images import Preprocessing, Resize
from atoll_contract.labelmap import format_label_map
from atoll_contract.release import INT8_NAME, LABELS_NAME, Detection, Manifest, write_bundle
from atoll_contract.tflite import PREPROCESSING_NAME
from atoll_edge.models.bundle import BundleError, bundle_spec, named_model, unpack
from atoll_edge.models.canary_worker import CanaryJob, GoldenImage
from atoll_edge.models.release_state import Refusal
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import canary_job, run_canary
from support.edge_model import LABELS, SIDE, write_model
from support.edge_release import make_manifest, release_files
from support.minimal_tflite import minimal_tflite

LETTERBOX = Preprocessing(Resize.LETTERBOX)
# Four times as wide as high: of the model's 8 rows of cells the frame fills the fourth and the fifth.
FRAME = (SIDE * 4, SIDE)
# A red square of one cell, relative to the frame.
BOX = (0.0, 0.5, 0.5, 0.625)


@pytest.fixture
def golden(tmp_path: Path) -> GoldenImage:
    width, height = FRAME
    pixels = np.full((height, width, 3), 110, np.uint8)
    ymin, xmin, ymax, xmax = BOX
    pixels[int(ymin * height) : int(ymax * height), int(xmin * width) : int(xmax * width)] = (255, 0, 0)
    path = tmp_path / "golden-0.png"
    Image.fromarray(pixels).save(path)
    return GoldenImage(str(path), (Detection(0, 0.99, BOX),))


def test_the_canary_finds_the_expected_boxes_only_as_the_model_was_trained(tmp_path: Path, golden: GoldenImage) -> None:
    model, _ = write_model(tmp_path)
    job = CanaryJob(str(model), len(LABELS), SIDE, (golden,), Resize.LETTERBOX)
    # In a process of its own, whose memory the canary limits.
    run_canary(job, name="letterboxed")
    assert from_json(CanaryJob, to_json(job)) == job
    with pytest.raises(Refusal, match="was expected"):
        run_canary(CanaryJob(str(model), len(LABELS), SIDE, (golden,)), name="squashed")


@pytest.mark.parametrize(("said", "how"), [(None, Resize.SQUASH), (LETTERBOX, Resize.LETTERBOX)])
def test_the_manifest_says_how(tmp_path: Path, said: Preprocessing | None, how: Resize) -> None:
    manifest = make_manifest(1, {}, preprocessing=said)
    assert from_json(Manifest, to_json(manifest)).resize is how
    assert (b"preprocessing" in to_json(manifest)) == (said is not None)
    assert ReleaseStore(tmp_path).model_spec("aa", manifest).resize is how


def test_the_canary_and_the_detector_are_told(tmp_path: Path) -> None:
    manifest = make_manifest(1, release_files(b"model"), preprocessing=LETTERBOX)
    assert canary_job(manifest, lambda digest: tmp_path / digest).resize is Resize.LETTERBOX


@pytest.mark.parametrize(("text", "how"), [(None, Resize.SQUASH), (b'{"resize":"letterbox"}', Resize.LETTERBOX)])
def test_a_bundle_has_no_manifest_and_its_file_says_how(tmp_path: Path, text: bytes | None, how: Resize) -> None:
    archive = bundle(tmp_path, text)
    assert bundle_spec("stick", unpack(archive, tmp_path / "unpacked")).resize is how
    assert named_model(tmp_path / INT8_NAME, labels=None, folder=tmp_path / "work").resize is how


def test_a_bundle_of_a_later_version_is_refused(tmp_path: Path) -> None:
    archive = bundle(tmp_path, b'{"resize":"crop"}')
    with pytest.raises(BundleError, match=r"one of squash, letterbox.*update atoll-edge"):
        bundle_spec("stick", unpack(archive, tmp_path / "unpacked"))


def bundle(folder: Path, preprocessing: bytes | None) -> Path:
    """An archive of a model and its labels, which lie in the folder, too."""
    metadata = None if preprocessing is None else {PREPROCESSING_NAME: preprocessing}
    (folder / INT8_NAME).write_bytes(minimal_tflite(outputs=4, metadata=metadata))
    (folder / LABELS_NAME).write_text(format_label_map(LABELS))
    archive = folder / "model.tar.gz"
    write_bundle(archive, {name: folder / name for name in (INT8_NAME, LABELS_NAME)})
    return archive
