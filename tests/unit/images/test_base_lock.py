"""The base of the images is pinned by what a registry says to the client that is there; here, to one of the test's."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import base
from engine import EngineError

ROOT = Path(__file__).parents[3]
LOCK = ROOT / "images" / "base.lock"
LIST = "sha256:" + "a" * 64
OWN = "sha256:" + "b" * 64
IMAGE = "python:3.11-slim-bookworm"

Tool = Callable[[str, str], Path]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Writes a program of that name, in `sh`, onto a PATH that has no other container tool."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(shutil, "which", lambda name: str(folder / name) if (folder / name).exists() else None)

    def write(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "calls"}\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def inspected(**document: object) -> str:
    return f"case $1 in image) echo '{json.dumps([document])}';; esac"


def test_skopeo_is_asked_first_and_for_the_whole_list(tool: Tool, tmp_path: Path) -> None:
    tool("skopeo", f"echo {LIST}")
    tool("docker", "exit 1")
    assert base.ask_digest(IMAGE, None) == LIST
    assert (tmp_path / "calls").read_text() == f"inspect --no-tags --format {{{{.Digest}}}} docker://{IMAGE}\n"


def test_docker_and_podman_pull_and_tell(tool: Tool, tmp_path: Path) -> None:
    tool("docker", inspected(RepoDigests=[f"python@{LIST}"]))
    assert base.ask_digest(IMAGE, None) == LIST
    assert (tmp_path / "calls").read_text() == f"pull --quiet {IMAGE}\nimage inspect {IMAGE}\n"
    tool("podman", inspected(Digest=OWN, RepoDigests=[f"r/python@{OWN}", f"r/python@{LIST}"]))
    assert base.ask_digest(IMAGE, "podman") == LIST
    tool("podman", inspected(Digest=OWN, RepoDigests=[f"r/python@{OWN}"]))
    assert base.ask_digest(IMAGE, "podman") == OWN


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo "reading manifest" >&2; echo "dial tcp: lookup failed" >&2; exit 1', "exit code 1: dial tcp: lookup"),
        ("echo latest", "gives 'latest' for"),
    ],
)
def test_without_an_answer_it_is_said_why(tool: Tool, script: str, words: str) -> None:
    tool("skopeo", script)
    with pytest.raises(EngineError, match=words):
        base.ask_digest(IMAGE, None)


def test_without_a_tool_it_is_said_what_to_install(tool: Tool) -> None:
    with pytest.raises(EngineError, match="no skopeo, no docker, no podman on the PATH"):
        base.ask_digest(IMAGE, None)
    with pytest.raises(EngineError, match="buildah cannot tell"):
        base.ask_digest(IMAGE, "buildah")


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        (IMAGE, f"python@{LIST}"),
        ("registry.example:5000/mirror/python:3.11", f"registry.example:5000/mirror/python@{LIST}"),
        ("localhost/base", f"localhost/base@{LIST}"),
    ],
)
def test_a_pinned_base_is_named_by_digest(image: str, reference: str) -> None:
    assert base.Base(image, LIST).reference == reference
    assert base.Base(image, base.UNKNOWN).reference == image


def test_the_digest_is_written_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "base.lock"
    text = LOCK.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    base.write_digest(path, LIST)
    assert base.read_base(path) == base.Base(IMAGE, LIST)
    assert path.read_text(encoding="utf-8").splitlines()[:-1] == text.splitlines()[:-1]
    base.write_digest(path, "sha256:short")
    with pytest.raises(EngineError, match="64 hex digits"):
        base.read_base(path)


def test_the_dockerfiles_name_the_same_base() -> None:
    for path in (ROOT / "images").glob("*/Dockerfile"):
        named = re.findall(r"^ARG BASE=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert named == [base.read_base(LOCK).image], path


def test_make_images_builds_on_what_is_pinned(tool: Tool, tmp_path: Path) -> None:
    """The builder as a program, in a copy of its folder, with a docker that builds nothing."""
    for name in ("builder", "operator"):
        shutil.copytree(ROOT / "images" / name, tmp_path / "images" / name)
    shutil.copy(ROOT / "images" / "external.lock", tmp_path / "images")
    shutil.copy(LOCK, tmp_path / "images")
    tool("docker", 'case "$*" in *.Size*) echo 1000000;; esac')
    tool("skopeo", f"echo {LIST}")

    def builder(*arguments: str) -> str:
        command = [sys.executable, "-P", str(tmp_path / "images" / "builder"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ))
        return done.stdout

    assert "the base is python:3.11-slim-bookworm" in builder("build", "operator")
    assert LIST in builder("pin")
    assert f"the base is python@{LIST}" in builder("build", "operator")
    calls = (tmp_path / "calls").read_text().splitlines()
    built = [call for call in calls if call.startswith("build ")]
    assert [f"BASE=python@{LIST}" in call for call in built] == [False, True]
    assert "the base is debian:13" in builder("build", "operator", "--base", "debian:13")
