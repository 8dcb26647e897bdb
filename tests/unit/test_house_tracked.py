"""What is tracked: scripts held as strings import what exists, and no file is large."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

from support.house import ROOT, SOURCE_ROOTS

IMPORT = re.compile(r"\bfrom (atoll_\w+(?:\.\w+)*) import ([A-Za-z_]\w*(?:(?: as \w+)?, *[A-Za-z_]\w*)*)")
SUFFIXES = {".py", ".sh", ".md", ".yaml", ".yml", ".toml", ""}


@cache
def module_path(name: str) -> Path | None:
    """The file of a module or package of ours, or None."""
    stem = SOURCE_ROOTS[name.split(".")[0]].joinpath(*name.split("."))
    candidates = stem.with_suffix(".py"), stem / "__init__.py", stem
    return next((path for path in candidates if path.exists()), None)


@cache
def names_of(path: Path) -> set[str]:
    """Names that a module binds at its top, also under `if` and `try`."""
    bound: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    return bound


def missing(text: str) -> list[str]:
    """Imports of our packages in `text` that would fail."""
    found: list[str] = []
    for match in IMPORT.finditer(text):
        module, names = match[1], [name.split(" as ")[0].strip() for name in match[2].split(",")]
        if module.split(".")[0] not in SOURCE_ROOTS:
            continue
        path = module_path(module)
        if path is None:
            found.append(match[0])
        elif path.is_file():
            bound = names_of(path)
            found += [f"from {module} import {n}" for n in names if n not in bound and not module_path(f"{module}.{n}")]
        else:
            found += [f"from {module} import {n}" for n in names if not module_path(f"{module}.{n}")]
    return found


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return [path for line in listing.stdout.splitlines() if (path := ROOT / line).is_file()]


def test_a_name_that_moved_is_found() -> None:
    moved = "from atoll_contract.stage import Architecture"
    assert missing(moved) == [moved]
    assert missing("from atoll_contract.train_spec import Architecture") == []


def test_scripts_in_strings_import_what_exists() -> None:
    """mypy reads code, not the programs that a test gives to `python -c`."""
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in tracked()
        if path.suffix in SUFFIXES and path != Path(__file__)
        if (found := missing(path.read_text(encoding="utf-8", errors="replace")))
    }
    assert wrong == {}


def test_no_tracked_file_is_over_a_megabyte() -> None:
    assert [str(p.relative_to(ROOT)) for p in tracked() if p.stat().st_size > 1_000_000] == []
