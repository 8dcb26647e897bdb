"""How often a reader of `decide` changes the file: `python -m support.decide_walk` prints the walk.

The walk begins at `decide`. A function is read together with all that it calls in its own file; then the calls into
other files are followed, in source order and depth first; each function is read once. A return is a change to a file
that was left before.

What counts: functions and methods of `atoll_operator` that are defined in the product, `atoll_operator.api` excepted,
whose types the reader knows from the API. Documents of `atoll_contract` do not count either, and neither does the
construction of a plain dataclass, which has no code to read. A method is found by its name where one class of
`atoll_operator.lifecycle` alone defines it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.house import modules

PACKAGE = "atoll_operator.lifecycle"
START = (f"{PACKAGE}.decide", "decide")
EXCEPTED = "atoll_operator.api"

# Module, and the function's name; that of a method has its class before it.
Name = tuple[str, str]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Walk:
    """The functions in the order of reading; `stays` groups them by file."""

    order: tuple[Name, ...]

    @property
    def stays(self) -> list[tuple[str, list[str]]]:
        found: list[tuple[str, list[str]]] = []
        for module, function in self.order:
            if not found or found[-1][0] != module:
                found.append((module, []))
            found[-1][1].append(function)
        return found

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(module for module, _ in self.order))

    @property
    def returns(self) -> int:
        return len(self.stays) - len(self.files)


def walk(start: Name = START) -> Walk:
    """The walk of a reader from `start`."""
    reader = _Reader(_Definitions())
    reader.read(start)
    return Walk(tuple(reader.order))


class _Definitions:
    """The counted functions, and what each module's names refer to."""

    def __init__(self) -> None:
        self.functions: dict[Name, Function] = {}
        self._names: dict[str, dict[str, Name]] = {}
        self._methods: dict[str, list[Name]] = {}
        for module in modules():
            if module.package == "atoll_operator" and not module.name.startswith(EXCEPTED):
                self._add(module.name, module.tree)

    def _add(self, module: str, tree: ast.Module) -> None:
        names = self._names[module] = {}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names.update({item.asname or item.name: (node.module, item.name) for item in node.names})
            elif isinstance(node, Function):
                self.functions[module, node.name] = node
                names[node.name] = (module, node.name)
            elif isinstance(node, ast.ClassDef):
                names[node.name] = (module, f"{node.name}.__init__")
                for method in [item for item in node.body if isinstance(item, Function)]:
                    self.functions[module, f"{node.name}.{method.name}"] = method
                    if module.startswith(PACKAGE):
                        self._methods.setdefault(method.name, []).append((module, f"{node.name}.{method.name}"))

    def called(self, module: str, name: Name) -> Iterator[Name]:
        """The counted functions that a function calls, in source order."""
        calls = [node.func for node in ast.walk(self.functions[name]) if isinstance(node, ast.Call)]
        for target in sorted(calls, key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0)):
            found = None
            if isinstance(target, ast.Name):
                found = self._names[module].get(target.id)
            elif isinstance(target, ast.Attribute):
                methods = self._methods.get(target.attr, [])
                found = methods[0] if len(methods) == 1 else None
            if found in self.functions:
                yield found


@dataclass
class _Reader:
    definitions: _Definitions
    order: list[Name] = field(default_factory=list)

    def read(self, name: Name) -> None:
        for elsewhere in self._read_here(name):
            self.read(elsewhere)

    def _read_here(self, name: Name) -> list[Name]:
        """Reads a function and what it calls in its file. Returns the calls into other files."""
        if name in self.order:
            return []
        self.order.append(name)
        elsewhere: list[Name] = []
        for called in self.definitions.called(name[0], name):
            elsewhere += self._read_here(called) if called[0] == name[0] else [called]
        return elsewhere


def main() -> None:
    found = walk()
    left: set[str] = set()
    for module, functions in found.stays:
        print(f"{'↩' if module in left else ' '} {module.removeprefix('atoll_operator.')}: {', '.join(functions)}")
        left.add(module)
    print(f"{len(found.files)} files, {found.returns} returns, {len(found.order)} functions")


if __name__ == "__main__":
    main()
