"""The files of a detector, by its head: the int8 .tflite, the float ONNX, and the document that says how to read it.

An SSD's int8 file ends in the post-processing operation that pycoral, Frigate and MediaPipe read. A detector with
distributions leaves boxes and scores as they are: Frigate reads them from the .tflite, and PhotonVision from the six
outputs that the ONNX model, and what is compiled of it, has.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from atoll_contract.box_distributions import BINS, IOU_THRESHOLD, MAX_DETECTIONS, SCORE_THRESHOLD
from atoll_contract.detector_head import HEAD_NAME, LEVEL_OUTPUTS, NETWORK_OUTPUTS, DetectorHead
from atoll_contract.document import replace, to_json
from atoll_contract.images import Resize, stated_preprocessing
from atoll_contract.train_spec import Architecture
from atoll_stages.export.converter import POSTPROCESS, RAW_OUTPUTS, Postprocess, convert, convert_raw
from atoll_stages.export.flatbuffer import fix_outputs, order_outputs
from atoll_stages.export.metadata import Outputs, add_metadata
from atoll_stages.export.onnx_model import ConverterMissing, float_onnx, level_network
from atoll_stages.export.target_inputs import (
    CALIBRATION_ARTIFACT,
    CALIBRATION_NAME,
    HEAD_ARTIFACT,
    ONNX_ARTIFACT,
    ONNX_NAME,
    write_calibration,
)
from atoll_stages.train.anchors import BOX_SCALES, MAX_LOG_SIZE, generate_anchors
from atoll_stages.train.initial_weights import ModelInfo

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


class HeadFiles(Protocol):
    """Makes the files of the detectors of one head."""

    def int8(
        self,
        model: keras.Model,
        *,
        name: str,
        labels: Sequence[str],
        calibration: Sequence[np.ndarray],
        resize: Resize = Resize.SQUASH,
    ) -> bytes:
        """Returns the int8 file, which says that its inputs are resized as `resize` says; `calibration` are uint8
        images (side, side, 3).

        Raises:
            ModelError: CompileFailed, the converter refuses the graph.
        """
        ...

    def onnx(self, model: keras.Model) -> bytes:
        """Returns the float network without its post-processing.

        Raises:
            ConverterMissing: tf2onnx is not installed.
        """
        ...

    def document(self, classes: tuple[str, ...]) -> DetectorHead:
        """Returns how the outputs of the ONNX model become boxes."""
        ...


@dataclass(frozen=True)
class SsdFiles:
    """Files of an SSD, which gives `max_detections` boxes of a picture."""

    architecture: Architecture
    max_detections: int

    def int8(
        self,
        model: keras.Model,
        *,
        name: str,
        labels: Sequence[str],
        calibration: Sequence[np.ndarray],
        resize: Resize = Resize.SQUASH,
    ) -> bytes:
        raw = convert(
            model,
            anchors=generate_anchors(self.architecture),
            side=self.architecture.side,
            post=Postprocess(max_detections=self.max_detections, classes=len(labels)),
            calibration=calibration,
        )
        fixed = fix_outputs(raw, operation=POSTPROCESS)
        return add_metadata(fixed, name=name, labels=labels, outputs=Outputs.DETECTIONS, resize=resize)

    def onnx(self, model: keras.Model) -> bytes:
        return float_onnx(model, side=self.architecture.side, outputs=NETWORK_OUTPUTS)

    def document(self, classes: tuple[str, ...]) -> DetectorHead:
        return DetectorHead(
            side=self.architecture.side,
            classes=classes,
            anchors=tuple(tuple(anchor) for anchor in generate_anchors(self.architecture).boxes.tolist()),
            box_scales=BOX_SCALES,
            max_log_size=MAX_LOG_SIZE,
            max_detections=self.max_detections,
            score_threshold=SCORE_THRESHOLD,
            iou_threshold=IOU_THRESHOLD,
        )


@dataclass(frozen=True)
class DistributionFiles:
    """Files of a detector whose boxes are distributions."""

    architecture: Architecture

    def int8(
        self,
        model: keras.Model,
        *,
        name: str,
        labels: Sequence[str],
        calibration: Sequence[np.ndarray],
        resize: Resize = Resize.SQUASH,
    ) -> bytes:
        raw = convert_raw(model, side=self.architecture.side, calibration=calibration)
        ordered = order_outputs(raw, names=RAW_OUTPUTS)
        return add_metadata(ordered, name=name, labels=labels, outputs=Outputs.DISTRIBUTIONS, resize=resize)

    def onnx(self, model: keras.Model) -> bytes:
        return float_onnx(level_network(model), side=self.architecture.side, outputs=LEVEL_OUTPUTS)

    def document(self, classes: tuple[str, ...]) -> DetectorHead:
        return DetectorHead(
            side=self.architecture.side,
            classes=classes,
            anchors=(),
            box_scales=(),
            max_log_size=0.0,
            max_detections=MAX_DETECTIONS,
            score_threshold=SCORE_THRESHOLD,
            iou_threshold=IOU_THRESHOLD,
            bins=BINS,
        )


def files_of(architecture: Architecture, *, max_detections: int = MAX_DETECTIONS) -> HeadFiles:
    """Returns the maker of an architecture's files. An SSD gives `max_detections` boxes of a picture; whoever reads
    distributions chooses their number, so such a file does not."""
    if architecture.has_distributions:
        return DistributionFiles(architecture)
    return SsdFiles(architecture, max_detections)


def write_target_inputs(
    folder: Path,
    model: keras.Model,
    info: ModelInfo,
    *,
    calibration: Sequence[bytes],
    max_detections: int,
    resize: Resize = Resize.SQUASH,
) -> dict[str, Path]:
    """Writes the float model, its head and the calibration images into `folder`; returns the files by their artifacts.

    Without the package that converts the model there are none, and every target that needs them says so.
    """
    files = files_of(info.architecture, max_detections=max_detections)
    try:
        onnx = files.onnx(model)
    except ConverterMissing:
        logger.warning("tf2onnx is not installed here: no float ONNX for the other compile targets")
        return {}
    names = {ONNX_ARTIFACT: ONNX_NAME, HEAD_ARTIFACT: HEAD_NAME, CALIBRATION_ARTIFACT: CALIBRATION_NAME}
    written = {artifact: folder / name for artifact, name in names.items()}
    written[ONNX_ARTIFACT].write_bytes(onnx)
    head = files.document(info.classes)
    written[HEAD_ARTIFACT].write_bytes(to_json(replace(head, preprocessing=stated_preprocessing(resize))))
    write_calibration(written[CALIBRATION_ARTIFACT], calibration)
    return written
