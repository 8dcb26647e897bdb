"""The way of a fresh run through the product's files: from its watch event to its created Job.

`python -m support.reconcile_walk` prints each function in the order in which it is first entered, file by file, and
counts them. Beside the run itself the reconcile reads Jobs, profile, nodes and store; it creates the profile's
snapshot, writes the status, and creates the Job and an Event. The client's files count; its transport is the test's.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from atoll_operator.kube.objects import NODES
from cluster.objects import DIGEST, profile_manifest
from support.fake_operator import KEY, FakeOperator, add_run, prepared
from support.house import SOURCE_ROOTS


@dataclass(frozen=True)
class Walk:
    """`stays`: file and function each time that the reconcile enters another file. `functions`: those entered, in
    order and once each."""

    stays: tuple[tuple[str, str], ...]
    functions: tuple[tuple[str, str], ...]

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(file for file, _ in self.functions))


def walk() -> Walk:
    """Runs the reconcile with a profiler."""
    image = f"registry.invalid/atoll/gpu@{DIGEST}"
    images = profile_manifest("default")["spec"]["images"] | {"trainGPU": image}
    server = prepared(images=images)
    server.add(NODES, {"metadata": {"name": "pc"}, "status": {"allocatable": {"nvidia.com/gpu": "1"}}})
    operator = FakeOperator(server)
    operator.start()
    add_run(server)
    server.take_calls()
    entered: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (file := _product_file(frame.f_code.co_filename)):
            entered.append((file, frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        operator.deliver()
        operator.reconcile(KEY)
    finally:
        sys.setprofile(None)
    assert server.take_calls()[-2:] == ["create jobs", "create events"]
    stays = [entered[0], *(after for before, after in pairwise(entered) if before[0] != after[0])]
    return Walk(tuple(stays), tuple(dict.fromkeys(entered)))


def _product_file(name: str) -> str:
    """The file below its source root, or an empty text for one of another package."""
    path = Path(name)
    root = next((root for root in SOURCE_ROOTS.values() if path.is_relative_to(root)), None)
    return str(path.relative_to(root)) if root else ""


def main() -> None:
    found = walk()
    for file in found.files:
        print(file, *(f"    {function}" for where, function in found.functions if where == file), sep="\n")
    print(f"{len(found.files)} files, {len(found.functions)} functions, {len(found.stays) - 1} changes of file")


if __name__ == "__main__":
    main()
