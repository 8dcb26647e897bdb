"""What a device has, by folders that stand for its /proc, /sys, /dev and /usr/lib."""

import sys
from pathlib import Path

import pytest

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.hardware import found_accelerators, soc_chip


def device(root: Path, *compatible: str) -> Path:
    tree = root / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"".join(text.encode() + b"\0" for text in compatible))
    return root


def add_library(root: Path, name: str) -> None:
    (root / "usr" / "lib").mkdir(parents=True, exist_ok=True)
    (root / "usr" / "lib" / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("compatible", "chip"),
    [
        (("radxa,rock-5b", "rockchip,rk3588"), "rk3588"),
        (("xunlong,orangepi-5", "rockchip,rk3588s"), "rk3588"),
        (("rockchip,rk3566-box", "rockchip,rk3566"), "rk3566"),
        (("thundercomm,rubikpi3", "qcom,qcs6490"), "qcs6490"),
        (("qcom,qcm6490-idp", "qcom,qcm6490"), "qcm6490"),
        (("raspberrypi,5-model-b", "brcm,bcm2712"), None),
        (("rockchip,rk3399",), None),
    ],
)
def test_the_chip_is_read_from_the_device_tree(tmp_path: Path, compatible: tuple[str, ...], chip: str | None) -> None:
    assert soc_chip(device(tmp_path, *compatible)) == chip


def test_a_machine_without_a_device_tree_has_none(tmp_path: Path) -> None:
    assert soc_chip(tmp_path) is None
    assert found_accelerators(tmp_path) == ()


def test_an_npu_whose_packages_are_missing_is_found_with_what_to_install(tmp_path: Path) -> None:
    [found] = found_accelerators(device(tmp_path, "rockchip,rk3588"))
    assert (found.backend, found.chip, found.name) == (Backend.RKNN, "rk3588", "Rockchip NPU (rk3588)")
    assert found.missing is not None
    assert "--rknn FOLDER" in found.missing
    assert "librknnrt.so" in found.missing
    # Who types the name of the package at an index gets whoever registered it.
    assert "pip install" not in found.missing


def test_the_rockchip_npu_needs_package_and_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device(tmp_path, "rockchip,rk3588")
    (tmp_path / "packages" / "rknnlite").mkdir(parents=True)
    (tmp_path / "packages" / "rknnlite" / "__init__.py").write_text("raise RuntimeError('nobody imports it here')")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    assert found_accelerators(tmp_path)[0].missing is not None
    add_library(tmp_path, "librknnrt.so")
    assert found_accelerators(tmp_path)[0].missing is None
    assert "rknnlite" not in sys.modules


def test_the_qualcomm_npu_needs_the_delegate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device(tmp_path, "qcom,qcs6490")
    [found] = found_accelerators(tmp_path)
    assert (found.backend, found.chip) == (Backend.QNN, "qcs6490")
    assert found.missing is not None
    assert "QAIRT" in found.missing
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ld.so.cache").write_bytes(b"\0libQnnTFLiteDelegate.so\0/opt/qairt/lib\0")
    assert found_accelerators(tmp_path)[0].missing is None
    (tmp_path / "etc" / "ld.so.cache").write_bytes(b"")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "qairt"))
    assert found_accelerators(tmp_path)[0].missing is not None
    (tmp_path / "qairt").mkdir()
    (tmp_path / "qairt" / "libQnnTFLiteDelegate.so").write_bytes(b"")
    assert found_accelerators(tmp_path)[0].missing is None


@pytest.mark.parametrize("kind", ["usb", "pcie"])
def test_a_coral_goes_before_the_processors_npu(tmp_path: Path, kind: str) -> None:
    device(tmp_path, "rockchip,rk3588")
    if kind == "usb":
        folder = tmp_path / "sys" / "bus" / "usb" / "devices" / "2-1"
        folder.mkdir(parents=True)
        (folder / "idVendor").write_text("1a6e\n")
        (folder / "idProduct").write_text("089a\n")
    else:
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev" / "apex_0").write_bytes(b"")
    assert [item.backend for item in found_accelerators(tmp_path)] == [Backend.EDGETPU, Backend.RKNN]
