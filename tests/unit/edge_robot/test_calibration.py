"""Calibrated angles against OpenCV's own over the whole picture, distances, and the files of PhotonVision and
WPILib."""

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from atoll_contract.release import Detection
from atoll_edge.agent import lens_of
from atoll_edge.config import CalibrationConfig, CameraConfig
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.robot.calibration import CalibrationError, read_calibration
from atoll_edge.robot.detection import View, observe
from atoll_edge.robot.lens import CalibratedLens, FieldOfView, Lens

SIZE = (640, 480)
MATRIX = [505.0, 0.0, 331.0, 0.0, 500.0, 228.0, 0.0, 0.0, 1.0]
# A wide webcam, a mild one, and one by the rational model, as PhotonVision and WPILib find them.
LENSES = {
    "barrel": [-0.42, 0.21, 0.001, -0.0005, -0.05],
    "mild": [0.12, -0.25, 0.0, 0.001, 0.1],
    "rational": [0.386, -0.256, -0.00115, 0.00173, 0.0569, 0.4355, -0.1178, -0.02271],
    "none": [],
}


def photonvision(distortion: list[float], **changes: Any) -> dict[str, Any]:
    return {
        "resolution": {"width": 640.0, "height": 480.0},
        "cameraIntrinsics": {"rows": 3, "cols": 3, "type": 6, "data": MATRIX},
        "distCoeffs": {"rows": 1, "cols": len(distortion), "type": 6, "data": distortion},
        "calobjectWarp": [0.0, 0.0],
        "observations": [],
        "lensmodel": "LENSMODEL_OPENCV8",
        **changes,
    }


def wpilib(distortion: list[float], **changes: Any) -> dict[str, Any]:
    padded = [*distortion, *[0.0] * (14 - len(distortion))]
    return {"avg_reprojection_error": 0.4, "camera_matrix": MATRIX, "distortion_coefficients": padded, **changes}


def lens(folder: Path, document: Any, *, size: tuple[int, int] = SIZE) -> Lens:
    path = folder / "front.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return CalibratedLens(read_calibration(path, size=size, file_size=SIZE))


def angles(lens: Lens, u: float, v: float) -> tuple[float, float]:
    [seen] = observe([Detection(0, 1.0, (v, u, v, u))], labels=["a"], thresholds=[0.5], view=View(lens))
    return seen.yaw, seen.pitch


def pixels() -> np.ndarray[Any, Any]:
    """Points of the whole picture, also between those of the lens' grid, its corners included."""
    return np.array(list(itertools.product(np.linspace(-0.5, 639.5, 41), np.linspace(-0.5, 479.5, 31))))


@pytest.mark.parametrize("name", LENSES)
@pytest.mark.parametrize("document", [photonvision, wpilib])
def test_angles_are_those_of_opencv_over_the_whole_picture(tmp_path: Path, name: str, document: Any) -> None:
    found = lens(tmp_path, document(LENSES[name]))
    matrix, distortion = np.array(MATRIX).reshape(3, 3), np.array(LENSES[name])
    # OpenCV 4.11 stops after five steps, which is not the end for every lens: `projectPoints` is the truth of both.
    directions = cv2.undistortPoints(pixels().reshape(-1, 1, 2), matrix, distortion).reshape(-1, 2)
    shown = cv2.projectPoints(np.c_[directions, np.ones(len(directions))], np.zeros(3), np.zeros(3), matrix, distortion)
    exact = np.abs(shown[0].reshape(-1, 2) - pixels()).max(axis=1) < 0.5
    assert exact.mean() > 0.9
    for (x, y), (ray_x, ray_y), counts in zip(pixels(), directions, exact, strict=True):
        yaw, pitch = angles(found, (x + 0.5) / 640, (y + 0.5) / 480)
        if counts:
            assert yaw == pytest.approx(math.degrees(math.atan(ray_x)), abs=0.2)
            assert pitch == pytest.approx(-math.degrees(math.atan(ray_y)), abs=0.2)


@pytest.mark.parametrize("name", LENSES)
def test_a_direction_is_seen_where_the_lens_shows_it(tmp_path: Path, name: str) -> None:
    found = lens(tmp_path, photonvision(LENSES[name]))
    assert isinstance(found, CalibratedLens)
    assert found.uncertain == 0
    rays = np.array(list(itertools.product(np.linspace(-0.6, 0.6, 25), np.linspace(-0.45, 0.45, 19))))
    shown, _ = cv2.projectPoints(
        np.c_[rays, np.ones(len(rays))],
        np.zeros(3),
        np.zeros(3),
        np.array(MATRIX).reshape(3, 3),
        np.array(LENSES[name]),
    )
    for (ray_x, ray_y), (x, y) in zip(rays, shown.reshape(-1, 2), strict=True):
        if 0 <= x < 640 and 0 <= y < 480:
            wanted = (math.degrees(math.atan(ray_x)), -math.degrees(math.atan(ray_y)))
            assert angles(found, (x + 0.5) / 640, (y + 0.5) / 480) == pytest.approx(wanted, abs=0.05)


def test_a_smaller_picture_of_the_same_shape_has_the_same_angles(tmp_path: Path) -> None:
    large = lens(tmp_path, photonvision(LENSES["barrel"]))
    small = lens(tmp_path, photonvision(LENSES["barrel"]), size=(320, 240))
    assert angles(small, 0.9, 0.1) == angles(large, 0.9, 0.1)


def test_an_older_file_of_photonvision_and_a_matrix_by_rows_are_read(tmp_path: Path) -> None:
    newest = photonvision(LENSES["mild"])
    older = {key: newest[key] for key in ("resolution", "cameraIntrinsics")} | {
        "cameraExtrinsics": newest["distCoeffs"]
    }
    rows = wpilib(LENSES["mild"], camera_matrix=[MATRIX[0:3], MATRIX[3:6], MATRIX[6:9]])
    wanted = angles(lens(tmp_path, newest), 0.8, 0.2)
    assert angles(lens(tmp_path, older), 0.8, 0.2) == wanted
    assert angles(lens(tmp_path, rows), 0.8, 0.2) == wanted


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("{", "is not JSON"),
        ("[]", "it has neither cameraIntrinsics (PhotonVision) nor camera_matrix (WPILib)"),
        (
            photonvision([], lensmodel="LENSMODEL_STERYGONS"),
            "its lensmodel is 'LENSMODEL_STERYGONS'; it must be one of",
        ),
        (photonvision([], resolution={"width": 0, "height": 480}), "must be above 0"),
        (photonvision([], resolution=None), "resolution must be 2 numbers"),
        (
            photonvision([], resolution={"width": 1280, "height": 720}),
            "it was made for pictures of 1280×720, and the cam",
        ),
        (photonvision([], cameraIntrinsics={"data": MATRIX[:8]}), "cameraIntrinsics must be 9 numbers"),
        (photonvision([0.1] * 15), "distCoeffs must be up to 14 numbers"),
        (photonvision([math.nan]), "distCoeffs must be up to 14 numbers"),
        (wpilib([0.1] * 14), "it has a tilted sensor"),
        (wpilib([], camera_matrix="x"), "camera_matrix must be 9 numbers"),
    ],
)
def test_a_calibration_that_cannot_be_used_is_said(tmp_path: Path, document: Any, text: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        lens(tmp_path, document)
    assert text in str(caught.value)
    assert "front.json" in str(caught.value)


def test_a_file_of_wpilib_needs_the_size_of_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    path.write_text(json.dumps(wpilib([])))
    with pytest.raises(CalibrationError, match=r"set calibration\.width and calibration\.height"):
        lens_of(CameraConfig(calibration=CalibrationConfig(str(path))), (*SIZE, 30))
    assert isinstance(
        lens_of(CameraConfig(calibration=CalibrationConfig(str(path), *SIZE)), (*SIZE, 30)), CalibratedLens
    )
    with pytest.raises(CalibrationError, match="cannot be read"):
        lens_of(CameraConfig(calibration=CalibrationConfig(str(tmp_path / "none.json"))), (*SIZE, 30))


def test_corners_that_a_calibration_does_not_reach_count_as_free_of_distortion(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "front.json"
    path.write_text(json.dumps(photonvision([-1.2, 0.0, 0.0, 0.0, 0.0])))
    found = lens_of(CameraConfig(calibration=CalibrationConfig(str(path))), (*SIZE, 30))
    assert isinstance(found, CalibratedLens)
    assert 0 < found.uncertain < 0.7
    assert "% of the picture" in caplog.text
    assert all(map(math.isfinite, angles(found, 0.0, 0.0)))


@pytest.mark.parametrize("away", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("ray", [(0.0, 0.0), (0.3, -0.2), (-0.35, 0.1)])
@pytest.mark.parametrize("kind", ["calibrated", "field of view"])
def test_the_distance_of_an_object_of_known_width(
    tmp_path: Path, away: float, ray: tuple[float, float], kind: str
) -> None:
    """A board of 0.2 m across the camera's axis, `away` metres in front of it, as the lens shows it."""
    half = 0.1
    corners = [(ray[0] * away + side * half, ray[1] * away, away) for side in (-1, 1)]
    if kind == "calibrated":
        found = lens(tmp_path, photonvision(LENSES["barrel"]))
        matrix, distortion = np.array(MATRIX).reshape(3, 3), np.array(LENSES["barrel"])
        shown, _ = cv2.projectPoints(np.array(corners), np.zeros(3), np.zeros(3), matrix, distortion)
        (left, v), (right, _) = ((shown.reshape(-1, 2) + 0.5) / SIZE).tolist()
    else:
        found = FieldOfView(60.0, 47.0)
        half_x, half_y = (math.tan(math.radians(angle / 2)) for angle in (60.0, 47.0))
        left, right = ((x / z / half_x + 1) / 2 for x, _, z in corners)
        v = (corners[0][1] / away / half_y + 1) / 2
    box = Detection(0, 1.0, (v - 0.02, left, v + 0.02, right))
    [seen] = observe([box], labels=["note"], thresholds=[0.5], view=View(found, {"note": 0.2}))
    true = away * math.sqrt(1 + ray[0] ** 2 + ray[1] ** 2)
    assert seen.distance == pytest.approx(true if min(left, v) > 0 and right < 1 else 0.0, rel=0.02)


def test_widths_of_the_release_are_known_and_those_of_the_settings_go_before() -> None:
    model = LoadedModelSpec("m-v1", "aa", 1, ("a", "b"), (0.5, 0.5), Path("m"), widths=(("a", 0.2), ("b", 0.4)))
    boxes = [Detection(number, 1.0, (0.4, 0.4, 0.6, 0.6)) for number in range(2)]

    def distances(view: View) -> list[float]:
        return [seen.distance for seen in observe(boxes, labels="ab", thresholds=[0.0, 0.0], view=view)]

    release = distances(View(FieldOfView()).of(model))
    assert release[0] > 0
    assert release[1] == pytest.approx(2 * release[0])
    own = distances(View(FieldOfView(), {"b": 0.2}).of(model))
    assert own == pytest.approx([release[0], release[0]])
    assert distances(View(FieldOfView()).of(dataclasses.replace(model, widths=()))) == [0.0, 0.0]


def test_no_distance_without_a_width_and_for_a_part_of_an_object() -> None:
    boxes = [Detection(0, 1.0, (0.4, 0.4, 0.6, 0.6)), Detection(1, 1.0, (0.4, 0.0, 0.6, 0.2))]
    view = View(FieldOfView(), {"b": 0.3})
    assert [seen.distance for seen in observe(boxes, labels="ab", thresholds=[0.0, 0.0], view=view)] == [0.0, 0.0]
