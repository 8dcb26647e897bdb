"""Which Python the edge's tests are installed with."""

from pathlib import Path

import pytest

from support.interpreters import find_interpreter


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}:{tmp_path / 'system'}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))


def python(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_shim_that_starts_nothing_is_passed_over(tmp_path: Path) -> None:
    python(tmp_path / "shims" / "python3.13", "exit 127")
    wanted = python(tmp_path / "system" / "python3.13", "echo 3.13")
    assert find_interpreter("3.13") == wanted


def test_one_that_pyenv_keeps_is_found_behind_its_shim(tmp_path: Path) -> None:
    python(tmp_path / "shims" / "python3.13", "exit 127")
    python(tmp_path / "pyenv" / "versions" / "3.11.7" / "bin" / "python3.11", "echo 3.11")
    wanted = python(tmp_path / "pyenv" / "versions" / "3.13.0" / "bin" / "python3.13", "echo 3.13")
    assert find_interpreter("3.13") == wanted


@pytest.mark.parametrize("text", ["echo 3.12", "exit 1"])
def test_another_version_and_one_without_venv_are_no_find(tmp_path: Path, text: str) -> None:
    python(tmp_path / "system" / "python3.13", text)
    assert find_interpreter("3.13") is None
