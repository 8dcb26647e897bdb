"""A copy of what `make images` and `make load` need, and programs that note what is built and imported."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# An archive is a file with the image's name in it; `docker` answers for sizes and knows no registry.
DOCKER = """#!/bin/sh
echo "docker $*" >> "$CALLS"
case "$1" in
  build) while [ $# -gt 1 ]; do [ "$1" = -t ] && echo "built $2" >> "$CALLS"; shift; done;;
  image) echo 1000000;;
  save) echo "$4" > "$3";;
esac
"""
IMPORTER = """#!/bin/sh
echo "{name} $*" >> "$CALLS"
for word in "$@"; do last="$word"; done
case "$*" in
  *"images import "*|*"load image-archive "*)
    case "$last" in *.tar) ;; *) exit 9;; esac
    echo "imported $(cat "$last")" >> "$CALLS";;
esac
"""


@dataclass(frozen=True)
class ImageRecorder:
    """`folder` is empty; it gets a checkout, programs and k3s's data."""

    folder: Path
    programs: tuple[str, ...] = ("k3s", "kind")

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def k3s_images(self) -> Path:
        return self.folder / "k3s" / "agent" / "images"

    def prepare(self) -> None:
        shutil.copytree(ROOT / "images", self.checkout / "images", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, self.checkout)
        (self.folder / "bin").mkdir()
        for name, text in {"docker": DOCKER, **{name: IMPORTER.format(name=name) for name in self.programs}}.items():
            path = self.folder / "bin" / name
            path.write_text(text)
            path.chmod(0o755)

    def type(self, line: str) -> str:
        """Output of a line that has to succeed, as a shell in the checkout runs it."""
        done = self.run(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "CALLS": str(self._calls),
            "K3S_DATA_DIR": str(self.folder / "k3s"),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }
        return subprocess.run(
            ["bash", "-c", line],
            cwd=self.checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def noted(self, word: str) -> set[str]:
        """The images that were `built` or `imported`."""
        return {line.removeprefix(f"{word} ") for line in self.calls() if line.startswith(f"{word} ")}

    @property
    def _calls(self) -> Path:
        return self.folder / "calls"
