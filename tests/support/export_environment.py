"""Python environments with other people's libraries, each made once from its lock and kept in the cache."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_with(lock: str) -> Path:
    """Returns the interpreter of the environment that `tests/requirements-{lock}.txt` locks; makes it if it is new."""
    requirements = ROOT / f"tests/requirements-{lock}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "atoll-test"
    folder = cache / f"exports-{lock}-{digest}"
    python, finished = folder / "bin/python", folder / "finished"
    if not finished.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([str(python), "-m", "pip", "install", *options, "-r", str(requirements)], check=True)
        finished.touch()
    return python
