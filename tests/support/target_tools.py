"""The compilers of other chips and other people's runtimes, each in an environment that is made once from its lock and
kept in the cache.

Rockchip's needs PyTorch. The package index has it with CUDA only, so it comes from Debian's packages, which are taken
apart into the cache: nothing is installed on the machine.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPILERS = ROOT / "images/compile"
TORCH = "python3-torch"
# Below the root of Debian's packages.
LIBRARIES = (
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/blas",
    "usr/lib/x86_64-linux-gnu/lapack",
    "usr/lib",
)


def environment() -> dict[str, str]:
    """The variables that name the compilers to `atoll run`."""
    return {"ATOLL_RKNN_PYTHON": str(rknn_python()), "ATOLL_QNN_PYTHON": str(qnn_python())}


def qnn_python() -> Path:
    return _installed(COMPILERS / "requirements-qnn.txt") / "bin/python"


def mediapipe_python() -> Path:
    return _installed(ROOT / "tests/requirements-mediapipe.txt") / "bin/python"


def rknn_python() -> Path:
    """A program that starts the interpreter with Debian's PyTorch beside the toolkit."""
    folder = _installed(COMPILERS / "requirements-rknn.txt")
    program, debian = folder / "bin/python-with-torch", folder / "debian"
    if not program.exists():
        _take_apart(debian, folder / "packages")
        modules = folder / "modules"
        modules.mkdir(exist_ok=True)
        (modules / "torch").symlink_to(debian / "usr/lib/python3/dist-packages/torch")
        libraries = ":".join(str(debian / name) for name in LIBRARIES)
        lines = ["#!/bin/sh", f"export LD_LIBRARY_PATH='{libraries}' PYTHONPATH='{modules}'"]
        program.write_text("\n".join([*lines, f'exec "{folder}/bin/python" "$@"', ""]))
        program.chmod(0o755)
    return program


def _installed(requirements: Path) -> Path:
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "atoll-test"
    folder = cache / f"targets-{requirements.stem.rpartition('-')[2]}-{digest}"
    finished = folder / "finished"
    if not finished.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        # The lock is whole, but for what Debian has.
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
        subprocess.run([folder / "bin/python", "-m", "pip", "install", *options, "-r", requirements], check=True)
        finished.touch()
    return folder


def _take_apart(root: Path, packages: Path) -> None:
    """Unpacks PyTorch and what this machine lacks of its dependencies."""
    command = ["apt-get", "--simulate", "install", "--no-install-recommends", TORCH]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = [line.split()[1] for line in listed.splitlines() if line.startswith("Inst ")]
    packages.mkdir(exist_ok=True)
    subprocess.run(["apt-get", "download", *names], cwd=packages, check=True, capture_output=True)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
