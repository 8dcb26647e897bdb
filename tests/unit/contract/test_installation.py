"""What a program says where a package that it needs is not installed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from atoll_contract import __version__
from atoll_contract.errors import SpecError
from atoll_contract.installation import require_packages, run_program

ROOT = Path(__file__).parents[3]
ROOTS = [str(ROOT / folder / "src") for folder in ("operator", "images", "edge")]
# A Python with the base packages and nothing else, as after `pip install` without an extra.
BARE = """
import sys
base = ("atoll_", "msgspec", "yaml", "_yaml")
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.stdlib_module_names or name.startswith(base):
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Bare())
sys.argv = [sys.argv[1], *sys.argv[3:]]
import importlib
sys.exit(importlib.import_module(PROGRAM).main())
"""


def bare(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"PROGRAM = {program!r}\nimport sys\nsys.path[:0] = {ROOTS!r}\n{BARE}"
    command = [sys.executable, "-P", "-c", code, program, "--", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize(
    ("program", "name", "advice"),
    [
        ("atoll_cli.__main__", "atoll: the package click", "pip install 'atoll[laptop]'"),
        ("atoll_edge.__main__", "atoll-edge: the package ", "pip install 'atoll[edge]'"),
    ],
)
def test_a_program_without_its_packages_names_the_extra_in_one_line(program: str, name: str, advice: str) -> None:
    done = bare(program, "--help")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(name)
    assert advice in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_fault_of_our_own_is_not_taken_for_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_program.py").write_text("import atoll_contract.nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=r"atoll_contract\.nowhere"):
        run_program("broken", "broken_program", "nothing helps")


def test_a_program_that_has_its_packages_gives_its_own_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sound_program.py").write_text("def main():\n    return 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_program("sound", "sound_program", "nothing to do") == 7


def test_packages_that_are_missing_are_named_together() -> None:
    with pytest.raises(SpecError) as caught:
        require_packages("atoll run", ["json", "no_such_package", "nor_this_one"])
    assert caught.value.message.startswith("atoll run needs no_such_package, nor_this_one, not installed here")
    assert "pip install 'atoll[laptop]'" in caught.value.message


def test_packages_that_are_there_pass() -> None:
    require_packages("atoll run", ["json", "msgspec"])


def test_the_changelog_has_a_section_for_the_version() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1].startswith(f"{__version__} - ")
