"""Which Python `make` takes for `.venv`, tried with programs that only look like a Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("bash", "chmod", "du", "echo", "env", "kill", "make", "mkdir", "sed", "sleep", "test", "touch")
# Answers for the version as the real one does, and makes a `.venv` whose Python does nothing.
VENV = """#!{bash}
if [ "$1" = -m ]; then
  mkdir -p "$3/bin" && echo {name} > made-by
  echo '#!{bash}' > "$3/bin/python" && chmod +x "$3/bin/python"
else
  exec {python} "$@"
fi
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "tests").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "pyproject.toml").touch()
    (folder / "tests" / "requirements.txt").touch()
    (folder / "bin").mkdir()
    for name in PROGRAMS:
        (folder / "bin" / name).symlink_to(str(shutil.which(name)))
    return folder


def program(checkout: Path, name: str, text: str = VENV) -> None:
    path = checkout / "bin" / name
    path.write_text(text.format(bash=shutil.which("bash"), python=sys.executable, name=name))
    path.chmod(0o755)


def make_setup(checkout: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(checkout / "bin"), "HOME": os.environ.get("HOME", "/")}
    command = [str(shutil.which("make")), f"SHELL={shutil.which('bash')}", "setup", *settings]
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3.13", "python3"])
def test_make_takes_whichever_python_is_there(checkout: Path, name: str) -> None:
    program(checkout, name)
    done = make_setup(checkout)
    assert done.returncode == 0, done.stderr
    assert (checkout / "made-by").read_text() == f"{name}\n"


def test_a_shim_that_starts_nothing_is_passed_over(checkout: Path) -> None:
    program(checkout, "python3.11", "#!{bash}\necho 'no such version' >&2; exit 127\n")
    program(checkout, "python3")
    assert make_setup(checkout).returncode == 0
    assert (checkout / "made-by").read_text() == "python3\n"


def test_without_a_python_that_fits_make_says_which_it_needs(checkout: Path) -> None:
    program(checkout, "python3", '#!{bash}\n[ "$1" = -c ] && exit 1\n')
    done = make_setup(checkout)
    assert done.returncode != 0
    assert "Atoll needs Python 3.11, 3.12 or 3.13 with its venv module" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_named_is_the_only_one_tried(checkout: Path) -> None:
    program(checkout, "python3.11")
    program(checkout, "mine")
    assert make_setup(checkout, "PYTHON=mine").returncode == 0
    assert (checkout / "made-by").read_text() == "mine\n"
    shutil.rmtree(checkout / ".venv")
    done = make_setup(checkout, "PYTHON=nowhere", "-B")
    assert done.returncode != 0
    assert "none of these is one: nowhere" in done.stderr
