"""Rules for every Dockerfile that a reader would otherwise have to check by eye."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))
IGNORE = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def instructions(path: Path) -> list[str]:
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
class TestEveryDockerfile:
    def test_the_base_is_an_argument(self, path: Path) -> None:
        lines = instructions(path)
        assert lines[0].startswith("ARG BASE=")
        stages = {"${BASE}"}
        for words in (line.split() for line in lines if line.startswith("FROM ")):
            assert words[1] in stages
            stages |= set(words[3:])

    def test_the_user_is_a_number_and_not_root(self, path: Path) -> None:
        users = [line for line in instructions(path) if line.startswith("USER ")]
        assert users == ["USER 65532:65532"]

    def test_dependencies_are_installed_by_hash_and_never_compiled(self, path: Path) -> None:
        installs = [line for line in instructions(path) if "pip install" in line]
        locked = [line for line in installs if "--require-hashes" in line]
        assert locked
        assert all("--no-cache-dir" in line and "--only-binary=:all:" in line for line in locked)
        assert all("--no-deps" in line for line in installs if line not in locked)

    def test_old_builders_can_read_it(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert "<<" not in text
        assert "--link" not in text
        assert "--mount" not in text

    def test_it_carries_labels_and_the_safe_path(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        for word in ("image.title", "image.version", "image.revision", "image.licenses", "PYTHONSAFEPATH=1"):
            assert word in text

    def test_what_it_copies_is_in_the_context(self, path: Path) -> None:
        for line in instructions(path):
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert list(ROOT.glob(source)), f"{path.parent.name} copies {source}, which is not there"
                    assert any(_admits(rule, source) for rule in IGNORE), f".dockerignore keeps {source} out"


def _admits(rule: str, source: str) -> bool:
    pattern = rule.removeprefix("!").replace("*", "[^/]*")
    return rule.startswith("!") and bool(re.match(rf"{pattern}(/|$)", source) or re.match(rf"{source}/", rule[1:]))
