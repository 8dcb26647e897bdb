"""Reads a camera's calibration from the JSON that PhotonVision exports, or that WPILib's calibration tool writes."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll_edge.robot.lens import Intrinsics

# PhotonVision keeps every corner of every calibration picture in the file.
MAX_BYTES = 64 * 2**20
# Of the 14 coefficients of OpenCV the last two tilt the sensor.
COEFFICIENTS = 12
LENS_MODELS = ("LENSMODEL_OPENCV", "LENSMODEL_OPENCV5", "LENSMODEL_OPENCV8")
# A camera that is set to another shape shows another part of its sensor.
MAX_SHAPE_DIFFERENCE = 0.01


class CalibrationError(ValueError):
    """A calibration cannot be used; the text names the file and says why."""


def read_calibration(path: Path, *, size: tuple[int, int], file_size: tuple[int, int] | None = None) -> Intrinsics:
    """Reads the calibration of a camera that runs at `size`. WPILib's file does not say at which size it was made: that
    is `file_size`.

    Raises:
        CalibrationError: it cannot be read, is of another kind, or was made for pictures of another shape.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CalibrationError(f"{path} is larger than {MAX_BYTES // 2**20} MiB; it is no calibration")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{path} is not JSON: {error}") from None
    try:
        return _intrinsics(document, size, file_size)
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None


def _intrinsics(document: Any, size: tuple[int, int], file_size: tuple[int, int] | None) -> Intrinsics:
    if isinstance(document, dict) and "cameraIntrinsics" in document:
        model = document.get("lensmodel", LENS_MODELS[0])
        if model not in LENS_MODELS:
            raise CalibrationError(f"its lensmodel is {str(model)[:40]!r}; it must be one of {', '.join(LENS_MODELS)}")
        resolution = document.get("resolution")
        found = resolution if isinstance(resolution, Mapping) else {}
        made_at = _numbers([found.get("width"), found.get("height")], "resolution", 2)
        matrix = _numbers(_data(document["cameraIntrinsics"]), "cameraIntrinsics", 9)
        # The name of older versions.
        distortion = _numbers(_data(document.get("distCoeffs", document.get("cameraExtrinsics"))), "distCoeffs")
    elif isinstance(document, dict) and "camera_matrix" in document:
        if file_size is None:
            raise CalibrationError(
                "it does not say for pictures of which size it was made; set calibration.width and calibration.height"
            )
        made_at = [float(side) for side in file_size]
        matrix = _numbers(_flat(document["camera_matrix"]), "camera_matrix", 9)
        distortion = _numbers(_flat(document.get("distortion_coefficients")), "distortion_coefficients")
    else:
        raise CalibrationError(
            "it has neither cameraIntrinsics (PhotonVision) nor camera_matrix (WPILib); export the calibration again"
        )
    return _scaled(matrix, distortion, made_at, size)


def _scaled(matrix: list[float], distortion: list[float], made_at: list[float], size: tuple[int, int]) -> Intrinsics:
    width, height = made_at
    if min(width, height, matrix[0], matrix[4]) <= 0:
        raise CalibrationError("its resolution and its focal lengths must be above 0")
    if abs(width / height / (size[0] / size[1]) - 1) > MAX_SHAPE_DIFFERENCE:
        raise CalibrationError(
            f"it was made for pictures of {width:g}×{height:g}, and the camera gives {size[0]}×{size[1]}: another part "
            "of its sensor. Set the camera's width and height to that shape, or calibrate it anew"
        )
    if any(distortion[COEFFICIENTS:]):
        raise CalibrationError("it has a tilted sensor (coefficients 13 and 14), which Atoll does not know")
    return Intrinsics(
        # OpenCV counts from the centre of the first pixel, the boxes from its corner.
        fx=matrix[0] / width,
        fy=matrix[4] / height,
        cx=(matrix[2] + 0.5) / width,
        cy=(matrix[5] + 0.5) / height,
        distortion=tuple(distortion[:COEFFICIENTS]),
    )


def _data(value: Any) -> Any:
    return value.get("data") if isinstance(value, Mapping) else value


def _flat(value: Any) -> Any:
    """A matrix as one list, also where it has a list for each row."""
    rows = _data(value)
    if isinstance(rows, list) and rows and all(isinstance(row, list) for row in rows):
        return [number for row in rows for number in row]
    return rows


def _numbers(values: Any, name: str, count: int | None = None) -> list[float]:
    good = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
    if not good or (count is not None and len(values) != count) or (count is None and len(values) > COEFFICIENTS + 2):
        wanted = f"{count} numbers" if count is not None else f"up to {COEFFICIENTS + 2} numbers"
        raise CalibrationError(f"{name} must be {wanted}")
    return [float(value) for value in values]
