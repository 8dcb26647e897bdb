"""Which backend runs a model: by the setting, what the device has, and what the release holds."""

from pathlib import Path

import pytest

from atoll_edge.detector.backends.base import INSTALL, Backend
from atoll_edge.detector.backends.choose import BackendChoice
from atoll_edge.detector.backends.hardware import Accelerator
from atoll_edge.detector.model import LoadedModelSpec

FILE = Path("model")
CORAL = Accelerator(Backend.EDGETPU)
ROCKCHIP = Accelerator(Backend.RKNN, "rk3588")
QUALCOMM = Accelerator(Backend.QNN, "qcs6490")
IDLE = Accelerator(Backend.RKNN, "rk3588", INSTALL[Backend.RKNN])


def model(*, cpu: bool = True, edgetpu: bool = False, rknn: bool = False) -> LoadedModelSpec:
    paths = [FILE if held else None for held in (cpu, edgetpu, rknn)]
    return LoadedModelSpec("note-v3", "aa", 3, ("note",), (0.5,), paths[0], paths[1], rknn_path=paths[2])


@pytest.mark.parametrize(
    ("found", "held", "expected"),
    [
        ((), {}, [Backend.CPU]),
        ((), {"edgetpu": True, "rknn": True}, [Backend.CPU]),
        ((CORAL,), {}, [Backend.CPU]),
        ((CORAL,), {"edgetpu": True}, [Backend.EDGETPU, Backend.CPU]),
        ((ROCKCHIP,), {}, [Backend.CPU]),
        ((ROCKCHIP,), {"rknn": True}, [Backend.RKNN, Backend.CPU]),
        ((IDLE,), {"rknn": True}, [Backend.CPU]),
        ((QUALCOMM,), {}, [Backend.QNN, Backend.CPU]),
        ((CORAL, ROCKCHIP), {"edgetpu": True, "rknn": True}, [Backend.EDGETPU, Backend.RKNN, Backend.CPU]),
        ((CORAL, ROCKCHIP), {"rknn": True}, [Backend.RKNN, Backend.CPU]),
        # It may be plugged in by the time that its worker looks.
        ((), {"cpu": False, "edgetpu": True}, [Backend.EDGETPU]),
        ((), {"cpu": False}, []),
    ],
)
def test_auto_takes_what_the_device_and_the_release_both_have(
    found: tuple[Accelerator, ...], held: dict[str, bool], expected: list[Backend]
) -> None:
    assert list(BackendChoice("auto", lambda: found).candidates(model(**held))) == expected


def test_what_was_given_up_is_left_out_until_nothing_else_is_left() -> None:
    choice = BackendChoice("auto", lambda: (ROCKCHIP,))
    assert choice.candidates(model(rknn=True), without={Backend.RKNN}) == (Backend.CPU,)
    assert choice.candidates(model(cpu=False, rknn=True), without={Backend.RKNN}) == (Backend.RKNN,)


@pytest.mark.parametrize("wanted", list(Backend))
def test_a_setting_that_names_a_backend_allows_no_other(wanted: Backend) -> None:
    choice = BackendChoice(wanted, lambda: (CORAL, ROCKCHIP))
    assert choice.candidates(model(edgetpu=True, rknn=True)) == (wanted,)
    assert not choice.is_free
    assert choice.first is wanted
    assert choice.better(model(edgetpu=True, rknn=True), wanted) == ()
    assert choice.idle(model()) == ()


def test_a_better_backend_than_the_one_that_runs_is_known() -> None:
    choice = BackendChoice("auto", lambda: (CORAL, ROCKCHIP))
    both = model(edgetpu=True, rknn=True)
    assert choice.better(both, Backend.CPU) == (Backend.EDGETPU, Backend.RKNN)
    assert choice.better(both, Backend.RKNN) == (Backend.EDGETPU,)
    assert choice.better(both, Backend.EDGETPU) == ()


def test_an_accelerator_that_does_not_run_the_model_says_what_to_do() -> None:
    [library] = BackendChoice("auto", lambda: (IDLE,)).idle(model(rknn=True))
    assert library == f"the Rockchip NPU (rk3588) is idle: {INSTALL[Backend.RKNN]}"
    [file] = BackendChoice("auto", lambda: (ROCKCHIP,)).idle(model())
    assert file == (
        "the Rockchip NPU (rk3588) is idle: note-v3 holds no file for it; "
        "train with compile: [{target: rknn, chip: rk3588}]"
    )
    assert BackendChoice("auto", lambda: (ROCKCHIP, QUALCOMM)).idle(model(rknn=True)) == ()
