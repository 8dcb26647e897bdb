import pytest

from atoll_contract.release import Detection
from atoll_edge.robot.detection import View, observe
from atoll_edge.robot.lens import FieldOfView

VIEW = View(FieldOfView(60.0, 40.0))


def one(box: tuple[float, ...], score: float = 0.9, class_id: int = 0) -> Detection:
    return Detection(class_id, score, box)


def test_boxes_outside_the_frame_are_clipped() -> None:
    [seen] = observe([one((-0.2, 0.5, 0.5, 1.4))], labels=["a"], thresholds=[0.5], view=VIEW)
    assert (seen.ymin, seen.xmin, seen.ymax, seen.xmax) == (0.0, 0.5, 0.5, 1.0)


def test_each_class_has_its_threshold() -> None:
    found = [one((0, 0, 1, 1), 0.6, 0), one((0, 0, 1, 1), 0.6, 1)]
    seen = observe(found, labels=["a", "b"], thresholds=[0.5, 0.7], view=VIEW)
    assert [item.label for item in seen] == ["a"]


def test_a_class_without_label_is_not_observed() -> None:
    assert observe([one((0, 0, 1, 1), class_id=3)], labels=["a"], thresholds=[0.0], view=VIEW) == ()


@pytest.mark.parametrize(
    ("box", "yaw", "pitch"),
    [
        ((0.4, 0.4, 0.6, 0.6), 0.0, 0.0),
        ((0.4, 0.9, 0.6, 1.1), 28.7, 0.0),  # the box ends at the frame's edge: its centre is 0.95
        ((0.0, 0.45, 0.0, 0.55), 0.0, 20.0),
        ((1.0, 0.45, 1.0, 0.55), 0.0, -20.0),
    ],
)
def test_angles_to_the_centre(box: tuple[float, ...], yaw: float, pitch: float) -> None:
    [seen] = observe([one(box)], labels=["a"], thresholds=[0.5], view=VIEW)
    assert seen.yaw == pytest.approx(yaw, abs=1.3)
    assert seen.pitch == pytest.approx(pitch, abs=0.01)
