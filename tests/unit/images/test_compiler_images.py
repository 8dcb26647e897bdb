"""`make images TARGETS=…`: the compile images of other chips, as one Dockerfile with an argument."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from atoll_contract import __version__
from support.image_recorder import ImageRecorder

ROOT = Path(__file__).parents[3]
# Makes an environment whose interpreter notes its PYTHONPATH and its arguments.
PYTHON = """#!/bin/sh
mkdir -p "$3/bin"
printf '#!/bin/sh\\nshift 2\\necho $PYTHONPATH $* >> $LOG\\n' > "$3/bin/python"
chmod 755 "$3/bin/python"
"""
DOCKERFILE = (ROOT / "images/compile/Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> ImageRecorder:
    recorder = ImageRecorder(tmp_path)
    recorder.prepare()
    return recorder


def test_each_target_gets_an_image_that_the_profile_is_told_of(machine: ImageRecorder) -> None:
    output = machine.type('make images TARGETS="rknn qnn"')
    assert f"localhost/atoll/compile-rknn:{__version__}: image 4 of 5\n" in output
    assert re.search(r"^localhost/atoll/compile-qnn:\S+: 0 MB over the base, built in \d+ s$", output, re.M)
    built = {f"localhost/atoll/compile-{name}:{__version__}" for name in ("rknn", "qnn")}
    assert machine.noted("built") >= built
    text = (machine.checkout / "build/values-images.yaml").read_text()
    values = json.loads("".join(line for line in text.splitlines() if not line.startswith("#")))
    assert values["images"]["compileRKNN"]["repository"] == "atoll/compile-rknn"
    assert values["images"]["compileQNN"]["repository"] == "atoll/compile-qnn"
    for name in ("rknn", "qnn"):
        (call,) = [line for line in machine.calls() if f" -t localhost/atoll/compile-{name}:" in line]
        assert "-f " + str(machine.checkout / "images/compile/Dockerfile") in call
        assert "--platform linux/amd64" in call
        assert f"--build-arg COMPILER={name}" in call


def test_the_compile_image_alone_has_no_other_compiler(machine: ImageRecorder) -> None:
    machine.type("make images IMAGES=compile")
    (call,) = [line for line in machine.calls() if line.startswith("docker build")]
    assert "COMPILER" not in call
    assert re.findall(r"^ARG COMPILER=(\w+)$", DOCKERFILE, re.M) == ["none", "none"]


def test_a_target_without_such_an_image_is_refused(machine: ImageRecorder) -> None:
    done = machine.run("make images TARGETS=hailo")
    assert done.returncode != 0
    assert "invalid choice: 'hailo'" in done.stderr
    assert not machine.noted("built")


def commands() -> list[str]:
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return [line.removeprefix("RUN ") for line in joined.splitlines() if line.startswith("RUN ")]


@pytest.mark.parametrize("command", commands(), ids=range(len(commands())))
def test_every_command_is_one_that_a_shell_can_read(command: str) -> None:
    done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", ["none", "qnn", "rknn"])
def test_what_the_image_has_for_a_compiler(compiler: str, tmp_path: Path) -> None:
    """The command that makes the environment runs here below a folder, with stand-ins for Python and pip."""
    (command,) = [line for line in commands() if "/opt/compilers/modules" in line]
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3").write_text(PYTHON)
    (programs / "python3").chmod(0o755)
    command = command.replace("/opt/compilers", f"{tmp_path}/compilers").replace("/usr/local/bin:", f"{programs}:")
    log = tmp_path / "log"
    environment = {"PATH": "/usr/bin:/bin", "COMPILER": compiler, "LOG": str(log)}
    subprocess.run(["sh", "-e", "-c", command], env=environment, check=True, capture_output=True)
    found = {path.name for path in (tmp_path / "compilers").iterdir()}
    assert found == ({"modules"} if compiler == "none" else {"modules", "venv", compiler})
    assert [path.name for path in (tmp_path / "compilers/modules").iterdir()] == (
        ["torch"] if compiler == "rknn" else []
    )
    if compiler != "none":
        assert f"-r /tmp/compilers/requirements-{compiler}.txt" in log.read_text().replace(f"{tmp_path}/", "/tmp/")
        subprocess.run([tmp_path / "compilers" / compiler, "-P", "tool.py", "a b"], env=environment, check=True)
        assert log.read_text().splitlines()[-1] == f"{tmp_path}/compilers/modules a b"


UNUSED = "--purge --force-depends libtorch-test libgl1-mesa-dri libllvm15 libz3-4"


@pytest.mark.parametrize(
    ("compiler", "package", "removed"),
    [("none", None, []), ("rknn", "python3-torch", [f"dpkg {UNUSED}"]), ("qnn", "libatomic1", [])],
)
def test_what_a_compiler_needs_of_debian_is_installed(
    compiler: str, package: str | None, removed: list[str], tmp_path: Path
) -> None:
    (command,) = [line for line in commands() if "apt-get" in line]
    for name in ("apt-get", "dpkg"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$LOG"\n')
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "log"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "COMPILER": compiler, "LOG": str(log)}
    command = command.replace("/var/lib/apt/lists", str(tmp_path / "lists"))
    subprocess.run(["sh", "-e", "-c", command], env=environment, check=True, capture_output=True)
    called = log.read_text().splitlines() if log.exists() else []
    install = f"apt-get install --yes --no-install-recommends {package}"
    assert called == ([] if package is None else ["apt-get update", install, *removed, "apt-get clean"])
