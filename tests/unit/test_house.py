"""The house rules that a test can hold: import roots, import directions, locks, and what is never named."""

import ast
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.house import (
    ROOT,
    SOURCE_ROOTS,
    doubled_classes,
    import_circles,
    imported,
    lines,
    old_words,
    wide_functions,
)
from support.house import modules as all_modules

ALLOWED = {
    "atoll_contract": {"atoll_contract"},
    "atoll_stages": {"atoll_stages", "atoll_contract"},
    "atoll_edge": {"atoll_edge", "atoll_contract"},
    "atoll_operator": {"atoll_operator", "atoll_contract"},
    "atoll_cli": {"atoll_cli", "atoll_operator", "atoll_contract"},
}
PURE = {"lifecycle", "jobs"}
LOCKS = sorted(
    path
    for pattern in ("images/*/requirements*.txt", "tests/requirements*.txt", "docs/site/requirements.txt")
    for path in ROOT.glob(pattern)
)


def modules(package: str) -> Iterator[Path]:
    return (SOURCE_ROOTS[package] / package).rglob("*.py")


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_one_way(package: str) -> None:
    for path in modules(package):
        ours = {name.split(".")[0] for name in imports(path) if name.startswith("atoll_")}
        assert ours <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {sorted(ours - ALLOWED[package])}"


def test_the_contract_imports_msgspec_and_the_standard_library_at_the_top() -> None:
    allowed = sys.stdlib_module_names | {"atoll_contract", "msgspec"}
    for path in modules("atoll_contract"):
        foreign = {name for name in imports(path, top_level_only=True) if name.split(".")[0] not in allowed}
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)} at its top"


@pytest.mark.parametrize(("library", "module"), [("kubernetes", "kube"), ("kopf", "main.py")])
def test_one_place_of_the_operator_imports_each_library(library: str, module: str) -> None:
    root = SOURCE_ROOTS["atoll_operator"] / "atoll_operator"
    users = {p.relative_to(root).parts[0] for p in modules("atoll_operator") if library in libraries(p)}
    assert users == {module}


def test_no_modules_import_each_other() -> None:
    assert import_circles() == []


def test_the_operators_image_has_what_its_programs_import() -> None:
    """The image carries the extra `operator` and the packages `atoll_contract` and `atoll_operator` alone."""
    by_name = {module.name: module for module in all_modules()}
    todo, seen = ["atoll_operator.main", "atoll_operator.mirror"], set()
    while todo:
        module = by_name[todo.pop()]
        for name in imported(module):
            assert name.split(".")[0] not in {"atoll_cli", "celpy", "click", "jsonschema", "rich"}, module
            if name in by_name and name not in seen:
                seen.add(name)
                todo.append(name)


def test_files_are_whole() -> None:
    """A file is one thing: the half of all files has at least 110 lines, whatever their number."""
    counts = [lines(module) for module in all_modules()]
    assert statistics.median(counts) >= 110


def test_names_are_the_fields_words() -> None:
    assert [f"{module.name}: {name}, rather {new}" for module, name, new in old_words()] == []


def test_no_function_has_eight_parameters() -> None:
    assert [f"{module.name}.{name}: {count}" for module, name, count in wide_functions()] == []


def test_a_class_name_stands_for_one_thing_in_a_package() -> None:
    assert doubled_classes() == {}


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def test_decisions_are_pure() -> None:
    banned = {"boto3", "kopf", "kubernetes", "os", "pathlib", "random", "socket", "subprocess", "threading", "time"}
    for path in modules("atoll_operator"):
        top = path.relative_to(SOURCE_ROOTS["atoll_operator"] / "atoll_operator").parts[0]
        if top.removesuffix(".py").split("_")[0] in PURE:
            found = {name.split(".")[0] for name in imports(path)} & banned
            assert not found, f"{path.name} imports {sorted(found)}"


@pytest.mark.parametrize("folder", ["operator", "images", "edge"])
def test_no_python_lies_directly_in_a_top_level_folder(folder: str) -> None:
    assert not list((ROOT / folder).glob("*.py"))


def test_the_standard_librarys_operator_wins_in_the_repository_root() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONSAFEPATH", "PYTHONPATH"}}
    code = "import collections, operator; print(operator.add(1, 2))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_locks_carry_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text
    blocks = re.findall(r"^(\S+==\S+)[^\n]*\n((?:    .*\n?)*)", text, re.MULTILINE)
    assert blocks
    assert all("--hash=sha256:" in body for _, body in blocks)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_unrelated_pycoral_of_the_package_index_is_never_locked(lock: Path) -> None:
    assert not re.search(r"^pycoral", lock.read_text(encoding="utf-8"), re.MULTILINE)
