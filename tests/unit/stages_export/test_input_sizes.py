"""The larger inputs: an untrained detector of each is exported, is all for the chip, and reads one picture."""

import numpy as np
import pytest

from atoll_contract import images as preprocess
from atoll_contract.train_spec import Architecture
from atoll_stages.export.converter import POSTPROCESS, Postprocess, check_input, convert
from atoll_stages.export.edgetpu_mapping import predict_mapping
from atoll_stages.export.flatbuffer import fix_outputs, operations
from atoll_stages.export.inference import ExportedModel
from atoll_stages.train.anchors import generate_anchors
from atoll_stages.train.detector import build_detector
from support.detection_data import CLASSES, labelled_images

LARGER = (Architecture.FPNLITE_416, Architecture.FPNLITE_512, Architecture.FPNLITE_640)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("architecture", LARGER)
def test_a_larger_input_is_exported_and_reads_a_picture(architecture: Architecture) -> None:
    side = architecture.side
    image = preprocess.decode(labelled_images(1)[0].encoded, side)
    model = build_detector(architecture=architecture, width=0.35, classes=len(CLASSES), side=side)
    # Untrained scores are all near the prior; from 0 on each of them is a detection.
    post = Postprocess(max_detections=8, classes=len(CLASSES), score_threshold=0.0)
    raw = convert(model, anchors=generate_anchors(architecture), side=side, post=post, calibration=[image])
    data = fix_outputs(raw, operation=POSTPROCESS)
    exported = ExportedModel(data)
    check_input(exported.input)
    assert exported.side == side
    report = predict_mapping(operations(data), size=len(data))
    assert report.refused == ()
    assert report.fits_on_chip
    assert {row.name for row in report.rows if row.status != "Mapped to Edge TPU"} <= {POSTPROCESS, "DEQUANTIZE"}
    found = exported.detect(image)
    assert len(found) == 8
    assert np.isfinite(found.boxes).all()
