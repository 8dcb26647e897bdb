"""The commands of a section of README.md as somebody would type them, and a shell to type them into."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.node_host import inside
from support.node_cluster import CommandError

ROOT = Path(__file__).parents[2]


def commands(section: str) -> list[str]:
    """The lines of the section's indented blocks in order; lines that end in a backslash go on in the next."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"README.md has no section {section!r}"
    block = "\n".join(line[4:] for line in found[1].splitlines() if line.startswith("    "))
    return [re.sub(r"\s+", " ", line) for line in re.sub(r"\\\n", " ", block).splitlines() if line.strip()]


@dataclass(frozen=True)
class Shell:
    """bash in the root of the checkout, with more environment than the test has."""

    environment: Mapping[str, str]

    def run(self, command: str, *, on_node: bool, timeout: float) -> str:
        """Output of a command that has to succeed; `on_node`: in the network namespace of the cluster."""
        done = self._start(command, on_node=on_node, timeout=timeout)
        if done.returncode != 0:
            raise CommandError(f"{command}\nfailed with exit code {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def refused(self, command: str, *, on_node: bool, timeout: float) -> str:
        """Output of a command that has to fail."""
        done = self._start(command, on_node=on_node, timeout=timeout)
        assert done.returncode != 0, f"{command}\nsucceeded:\n{done.stdout[-4000:]}"
        return done.stdout

    def _start(self, command: str, *, on_node: bool, timeout: float) -> subprocess.CompletedProcess[str]:
        line = ["bash", "-c", command]
        return subprocess.run(
            inside(line) if on_node else line,
            cwd=ROOT,
            env=os.environ | dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
        )
