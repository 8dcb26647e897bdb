"""Finds a Python of one version on this machine: `python -m support.interpreters 3.13` prints its path, or fails."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_USABLE = "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.')"


def find_interpreter(version: str) -> Path | None:
    """The `python<version>` that can make environments: of the PATH, else of those that pyenv keeps.

    A candidate is asked, because a name on the PATH may be a shim that starts nothing.
    """
    return next((path for path in _candidates(version) if _answer(path) == version), None)


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if os.access(path := Path(folder) / name, os.X_OK):
            yield path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}*/bin/{name}"), reverse=True)


def _answer(path: Path) -> str:
    done = subprocess.run([path, "-c", _USABLE], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    found = find_interpreter(sys.argv[1])
    if found is None:
        sys.exit(f"there is no Python {sys.argv[1]} with its venv module here")
    print(found)
