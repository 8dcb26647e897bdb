"""Measures of the source tree: what `tests/unit/test_house.py` holds. `python -m support.house` prints them."""

from __future__ import annotations

import ast
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = {
    "atoll_contract": ROOT / "images/src",
    "atoll_stages": ROOT / "images/src",
    "atoll_operator": ROOT / "operator/src",
    "atoll_cli": ROOT / "operator/src",
    "atoll_edge": ROOT / "edge/src",
}

# Words that an identifier of the product does not contain, and the words that stand for them.
OLD_WORDS = {
    "look looks looker looked surroundings": "reconcile, read, observe; ReferencedObjects",
    "hindrance hindrances": "permission_errors, blocked",
    "carrier": "Applier",
    "told tell tells teller telling heard": "notify, report, on_..._event, handle",
    "belt": "deadline_guard",
    "trouble troubled troubles": "pod_problems, problem",
    "mirror": "devices, reconcile; flip for images",
    "judge judges judged judgement verdict verdicts": "evaluate, conditions, result, assessment",
    "sighting sightings": "report_age, target",
    "words": "message, describe",
    "patience": "retry_timeout",
    "misfit": "ValidationError",
    "pinned": "snapshotted",
    "ending endings orphan adoption": "exit_result, exit_codes, parent_death, resume_completed",
    "deal deals dealing hand": "assign_splits, groups",
    "census tally tallies catalog catalogued findings fitting loose": "statistics, counter, example_store, "
    "conversion_summary, clip_boxes, prefix_download",
    "picture pictures": "image, images",
    "keeper about surplus": "TrainerCallbacks, DetectorManager; ModelInfo; cleanup",
    "asked probation proof served": "PendingActivation, Trial, verify, LoadedModelSpec",
    "supervisor": "ActivationController",
    "doubt doubts doubtful shelf slot pacer steady": "uncertainty, spool, LatestFrame, FrameRateLimiter, threads",
    "measures film films sheet": "throughput, video_file, contact_sheet",
    "errand errands audience deposit deposits": "tasks, RunObserver, uploads",
    "quantities bars place places pace stopwatch wish": "param_types, progress, target or location, "
    "throughput_estimate, benchmark, options",
    "likeness account accounts yard": "image_difference, report, workspace",
    "most least": "max, min",
    "allowance": "TimeBudget",
}
# Modules that installed charts start by their names.
ENTRY_POINTS = {"atoll_operator.mirror"}
# Identifiers of several words that were replaced.
OLD_NAMES = {
    "put_off": "deferred",
    "run_index": "QueueManager",
    "pod_ends": "SucceededPods",
    "store_loop": "ReleasePoller",
    "store_manager": "ReleaseManager",
    "device_store": "ReleaseStore",
    "again_after": "requeue_after",
    "with_seed_names": "SEED_NAMES",
}
# Names in which such a word is the field's own or a document's: package (or `*`) and part of the name → why.
FIELD_WORDS = {
    ("*", "early_stopping_patience"): "Keras' name",
    ("*", "service_account"): "Kubernetes' name",
    ("*", "serviceaccount"): "Kubernetes' name",
    ("atoll_contract", "account_id"): "AWS' name",
    ("atoll_edge", "min_doubt"): "a setting",
    ("atoll_edge", "pinned"): "a field of state and status",
    ("atoll_edge", "probation"): "a status",
    ("atoll_edge", "contact_sheet"): "photography's name",
}


@dataclass(frozen=True)
class Module:
    """A source file of the product."""

    package: str
    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        return _tree(self.path)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the five packages."""
    found = []
    for package, root in SOURCE_ROOTS.items():
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            found.append(Module(package, name, path))
    return tuple(found)


def imported(module: Module, *, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a module imports; `from a import b` gives `a` and `a.b`."""
    nodes = _run_at_import(module.tree.body) if top_level_only else ast.walk(module.tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _run_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported, without those that only a type checker reads."""
    for node in body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        if isinstance(node, ast.If):
            yield from _run_at_import(node.body + node.orelse)
        elif isinstance(node, ast.Try):
            yield from _run_at_import(node.body + [s for h in node.handlers for s in h.body] + node.orelse)


def import_circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or through others, when they are imported."""
    known = {module.name for module in modules()}
    graph = {m.name: {name for name in imported(m, top_level_only=True) if name in known} for m in modules()}
    return [sorted(group) for group in _strong_components(graph) if len(group) > 1]


def _strong_components(graph: dict[str, set[str]]) -> list[list[str]]:
    """Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node] - {node}:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append(stack[at:])
            del stack[at:]

    for name in graph:
        if name not in index:
            visit(name)
    return found


def identifiers(module: Module) -> set[str]:
    """What a module defines: functions, classes, parameters, variables, attributes, and its own name; without the
    fields of documents and API types, whose names others read."""
    names = set() if module.name in ENTRY_POINTS else {module.name.rpartition(".")[2]}
    stored = {id(item.target) for item in _stored_fields(module.tree)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in stored:
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def _stored_fields(tree: ast.Module) -> Iterator[ast.AnnAssign]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & {"Document", "ApiType"}:
            yield from (item for item in node.body if isinstance(item, ast.AnnAssign))


def words(identifier: str) -> list[str]:
    """`HTTPServer_run2` → http, server, run2."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", identifier)]


def old_words() -> Iterator[tuple[Module, str, str]]:
    """Identifiers that contain a word of the old column, with the words that stand for it."""
    replacement = {old: new for olds, new in OLD_WORDS.items() for old in olds.split()}
    for module in modules():
        for name in sorted(identifiers(module)):
            if any(part in name.lower() for package, part in FIELD_WORDS if package in {"*", module.package}):
                continue
            joined = "_".join(words(name))
            yield from ((module, name, new) for old, new in OLD_NAMES.items() if old in joined)
            for word in words(name):
                if word in replacement:
                    yield module, name, replacement[word]


def wide_functions(limit: int = 8) -> Iterator[tuple[Module, str, int]]:
    """Functions with `limit` parameters or more, `self` and `cls` not counted; click's commands aside."""
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_click_command(node):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = sum(1 for arg in given if arg.arg not in {"self", "cls"})
                if count >= limit:
                    yield module, node.name, count


def _is_click_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("click." in ast.unparse(decorator) for decorator in node.decorator_list)


def doubled_classes() -> dict[tuple[str, str], list[str]]:
    """Class names that a package defines in more than one place: (package, class) → modules."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                found[module.package, node.name].append(module.name)
    return {key: places for key, places in found.items() if len(places) > 1}


def lines(module: Module) -> int:
    return len(module.path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    counts = {module: lines(module) for module in modules()}
    print(f"{len(counts)} files, {sum(counts.values())} lines, median {statistics.median(counts.values())}")
    for package in SOURCE_ROOTS:
        own = [count for module, count in counts.items() if module.package == package]
        print(f"  {package}: {len(own)} files, {sum(own)} lines, median {statistics.median(own)}")
    print("import circles:", *import_circles(), sep="\n  ")
    print("8 parameters or more:")
    for module, name, count in wide_functions():
        print(f"  {module.name}.{name}: {count}")
    print("class names defined twice:")
    for (package, name), places in sorted(doubled_classes().items()):
        print(f"  {package} {name}: {', '.join(places)}")
    print("old words:")
    for module, name, new in old_words():
        print(f"  {module.name}: {name} → {new}")


if __name__ == "__main__":
    main()
