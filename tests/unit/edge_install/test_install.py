"""install.sh: what it refuses, the switch between systemd and k3s, and the unit that it installs.

The installation itself is what `make test-edge-lock` runs the edge's tests on. Here programs that would change this
machine are recorded instead of run.
"""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.hardware import RKNN_LIBRARY, found_accelerators

SYSTEMD = Path(__file__).parents[3] / "edge" / "systemd"
INSTALL = SYSTEMD / "install.sh"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is first on the PATH; what lies there writes its arguments to `calls`."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("systemctl", "chown"):
        program(folder, name, f'echo "{name} $*" >> {tmp_path}/calls')
    program(folder, "id", "echo 0")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def install(programs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    command = ["sh", str(INSTALL), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def calls(programs: Path) -> list[str]:
    path = programs.parent / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("options", [(), ("--use", "systemd"), ("--root", "somewhere")])
def test_a_32_bit_system_is_refused_by_name(programs: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Also under a 64-bit kernel, which the 32-bit Raspberry Pi OS has on a Pi 4."""
    program(programs, "getconf", "echo 32")
    program(programs, "uname", "echo aarch64")
    done = install(programs, *(str(tmp_path / item) if item == "somewhere" else item for item in options))
    assert done.returncode == 1
    assert "this is a 32-bit system (aarch64)" in done.stderr
    assert "64-bit Raspberry Pi OS" in done.stderr
    assert calls(programs) == []


def test_without_root_it_says_sudo(programs: Path) -> None:
    program(programs, "id", "echo 1000")
    done = install(programs)
    assert (done.returncode, done.stderr) == (1, "atoll-edge: run it with sudo\n")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--use", "docker"), "--use needs k3s or systemd, not docker"),
        (("--fast",), "unknown option --fast"),
        (("--use",), "--use needs k3s or systemd"),
    ],
)
def test_a_wrong_option_is_named(programs: Path, options: tuple[str, ...], text: str) -> None:
    done = install(programs, *options)
    assert done.returncode != 0
    assert text in done.stderr


PYTHONS = ("python3", "python3.11", "python3.13")


def pythons(folder: Path, **versions: str) -> None:
    """Interpreters that know their version, and have no venv. The others of PYTHONS start nothing, as a version
    manager's shim may."""
    for name in PYTHONS:
        minor = versions.get(name.replace(".", "_"))
        version = f"case $2 in *format*) echo 3.{minor} ;; *) echo 3 {minor} ;; esac"
        program(folder, name, f"[ $1 = -c ] || exit 1; {version}" if minor else "exit 127")


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        ({"python3": "11"}, "with Python 3.11 ({folder}/python3) and the packages of images/edge/requirements.txt"),
        (
            {"python3": "13"},
            "with Python 3.13 ({folder}/python3) and the packages of images/edge/requirements-py313.txt",
        ),
        ({"python3": "12", "python3_13": "13"}, "with Python 3.13 ({folder}/python3.13)"),
        ({"python3": "12", "python3_11": "11"}, "with Python 3.11 ({folder}/python3.11)"),
        ({"python3": "13", "python3_11": "11"}, "with Python 3.13 ({folder}/python3)"),
    ],
)
def test_it_takes_the_python_that_it_finds_and_says_which(
    programs: Path, tmp_path: Path, versions: dict[str, str], says: str
) -> None:
    pythons(programs, **versions)
    done = install(programs, "--root", str(tmp_path / "root"))
    assert says.format(folder=programs) in done.stdout
    assert ("for the CPU" in done.stdout) is ("3.13" in says)
    # There is no venv in these interpreters.
    assert "Python's venv module is missing" in done.stderr


def test_the_corals_files_need_python_3_11(programs: Path, tmp_path: Path) -> None:
    options = ("--coral", str(tmp_path), "--root", str(tmp_path / "root"))
    pythons(programs, python3="13", python3_11="11")
    assert "with Python 3.11" in install(programs, *options).stdout
    pythons(programs, python3="13")
    done = install(programs, *options)
    assert done.returncode == 1
    assert "the Coral's files are for Python 3.11, which is missing here" in done.stderr


WHEEL = "rknn_toolkit_lite2-2.5.0-cp311-cp311-linux_aarch64.whl"


@pytest.fixture
def rockchip(programs: Path, tmp_path: Path) -> Path:
    """Rockchip's files in a folder, and an interpreter that notes what is to be installed; see `pip_answers`."""
    folder = tmp_path / "rknn"
    folder.mkdir()
    (folder / WHEEL).write_bytes(b"")
    (folder / "librknnrt.so").write_bytes(b"the runtime")
    pythons(programs)
    pip_answers(programs, 0)
    return folder


def pip_answers(programs: Path, code: int) -> None:
    """The exit code of an installation of Rockchip's wheel."""
    venv = f"""
case "$*" in
  *format*) echo 3.11 ;;
  *purelib*) mkdir -p {programs.parent}/packages && echo {programs.parent}/packages ;;
  "-c import sys; print"*) echo 3 11 ;;
  "-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *rknn_toolkit_lite2*) echo "pip $*" >> {programs.parent}/calls; exit {code} ;;
esac
"""
    program(programs, "python3", venv)


def test_rockchips_files_come_from_the_folder_alone(programs: Path, rockchip: Path, tmp_path: Path) -> None:
    pip_answers(programs, 1)
    done = install(programs, "--rknn", str(rockchip), "--root", str(tmp_path / "root"))
    assert done.returncode == 1
    assert "must hold rknn_toolkit_lite2 for Python 3.11, and the wheels that it needs" in done.stderr
    [asked] = [line for line in calls(programs) if line.startswith("pip")]
    assert f"--no-index --find-links {rockchip} {rockchip}/rknn_toolkit_lite2-2.5.0" in asked
    assert not (tmp_path / "root" / "opt" / "atoll-edge").exists()


def test_rockchips_library_lies_where_the_runtime_and_the_agent_look_for_it(
    programs: Path, rockchip: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    done = install(programs, "--rknn", str(rockchip), "--root", str(root))
    assert done.returncode == 0, done.stderr
    assert (root / "usr" / "lib" / RKNN_LIBRARY).read_bytes() == b"the runtime"
    assert (root / "opt" / "atoll-edge" / "bin" / "atoll-edge").exists()
    tree = root / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"radxa,rock-5b\0rockchip,rk3588\0")
    (npu,) = found_accelerators(root)
    assert (npu.backend, npu.chip) == (Backend.RKNN, "rk3588")


@pytest.mark.parametrize("missing", [WHEEL, "librknnrt.so"])
def test_a_folder_without_rockchips_files_is_refused_before_anything_is_done(
    programs: Path, rockchip: Path, tmp_path: Path, missing: str
) -> None:
    (rockchip / missing).unlink()
    root = tmp_path / "root"
    done = install(programs, "--rknn", str(rockchip), "--root", str(root))
    assert done.returncode == 1
    assert f"{rockchip} must hold " in done.stderr
    assert missing.split("-")[0] in done.stderr
    assert list(root.iterdir()) == []
    assert calls(programs) == []


@pytest.mark.parametrize("versions", [{}, {"python3": "9"}, {"python3": "12"}])
def test_without_a_python_that_fits_it_says_what_to_install(programs: Path, versions: dict[str, str]) -> None:
    pythons(programs, **versions)
    done = install(programs)
    assert done.returncode == 1
    assert "there is no Python 3.13 or 3.11: apt-get install" in done.stderr


LOCKS = SYSTEMD.parents[1] / "images" / "edge"


@pytest.mark.parametrize(("name", "numpy"), [("requirements.txt", "1."), ("requirements-py313.txt", "2.")])
def test_no_lock_of_the_device_has_the_opencv_that_writes_out_of_bounds(name: str, numpy: str) -> None:
    """CVE-2025-53644, by a crafted JPEG, in 4.10 and 4.11. NumPy 1 is for the Coral's files; OpenCV 4.12 wants 2."""
    locked = dict(
        line.removesuffix(" \\").split("==") for line in (LOCKS / name).read_text().splitlines() if "==" in line
    )
    assert locked["numpy"].startswith(numpy)
    assert not locked["opencv-python-headless"].startswith(("4.10.", "4.11."))
    assert locked.keys() >= {"ai-edge-litert", "pyntcore", "robotpy-cscore", "boto3", "cryptography"}


def changes(programs: Path) -> list[str]:
    """The calls but for the look at what is there."""
    return [line for line in calls(programs) if " patch " in line or line.startswith(("systemctl", "chown"))]


K3S = """
echo "k3s $*" >> {calls}
case "$*" in *"get daemonset"*) printf 'atoll-edge edge\\n' ;; esac
"""


def test_one_command_switches_to_k3s_and_back(programs: Path) -> None:
    """The unit is off before the pod may start, the pod is gone before the unit starts: one of them holds the store."""
    program(programs, "k3s", K3S.format(calls=programs.parent / "calls"))
    assert install(programs, "--use", "k3s").returncode == 0
    patch = "k3s kubectl --namespace atoll-edge patch daemonset edge --type merge --patch"
    selector = '{"spec":{"template":{"spec":{"nodeSelector":{"atoll.dev/edge":VALUE}}}}}'
    found = changes(programs)
    assert found == [
        "systemctl disable --now atoll-edge",
        "chown -R root: /var/lib/atoll-edge",
        f"{patch} {selector.replace('VALUE', 'null')}",
    ]
    (programs.parent / "calls").unlink()
    done = install(programs, "--use", "systemd")
    assert "now under systemd" in done.stdout
    found = changes(programs)
    assert found == [
        patch + " " + selector.replace("VALUE", '"off"'),
        "chown -R atoll-edge: /var/lib/atoll-edge",
        "systemctl enable --now atoll-edge",
    ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="NOT RUN: systemd-analyze is not installed here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """With a program in the place of the agent's: systemd looks whether there is one."""
    text = (SYSTEMD / "atoll-edge.service").read_text()
    assert "ExecStart=/opt/atoll-edge/bin/atoll-edge run\n" in text
    unit = tmp_path / "atoll-edge.service"
    unit.write_text(text.replace("/opt/atoll-edge/bin/atoll-edge", "/bin/true").replace("User=atoll-edge", "User=root"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_waits_for_no_network_and_is_always_started_again() -> None:
    lines = (SYSTEMD / "atoll-edge.service").read_text().splitlines()
    settings = [line for line in lines if not line.startswith("#")]
    assert not [line for line in settings if "network" in line]
    assert {"Restart=always", "StartLimitIntervalSec=0", "StateDirectory=atoll-edge"} <= set(settings)
