"""The agent as a Pi gets it, for the tests: `python -m support.edge_install FOLDER [VERSION]`, run from `tests/`.

Wheels of the lock for this Python (3.11, or 3.13 as on today's Raspberry Pi OS) are downloaded, `install.sh` installs
from them without a network, below FOLDER, and pytest is added. What was downloaded and installed for the same files is
used again.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from support.detector_file import detector_file
from support.edge_model import SIDE, colour_detector
from support.interpreters import find_interpreter

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "edge" / "systemd" / "install.sh"
IMAGE = ROOT / "images" / "edge"
LOCKS = {"3.11": IMAGE / "requirements.txt", "3.13": IMAGE / "requirements-py313.txt"}
TEST_LOCK = ROOT / "tests" / "requirements-edge.txt"
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
HASHED = ("--require-hashes", "--only-binary=:all:")
# The edge's own limits: pycoral knows NumPy 1 only, and nothing of the training side may be needed.
CHECK = """
import importlib.util, numpy, sys
assert (numpy.__version__ < "2") is (sys.version_info < (3, 13)), numpy.__version__
for name in ("tensorflow", "kopf", "kubernetes", "atoll_operator", "atoll_stages"):
    assert importlib.util.find_spec(name) is None, name
print("installed: Python", sys.version.split()[0], "NumPy", numpy.__version__)
"""


def installed(folder: Path, version: str) -> Path:
    """The interpreter of an installation below `folder`, with pytest; made by this machine's Python of `version`."""
    base, lock = find_interpreter(version), LOCKS[version]
    if base is None:
        raise SystemExit(f"there is no Python {version} with its venv module here")
    python = folder / "device" / "opt" / "atoll-edge" / "bin" / "python"
    stamp = folder / "stamp"
    wanted = _digest(lock)
    if not python.is_file() or not stamp.is_file() or stamp.read_text() != wanted:
        wheels = folder / "wheels"
        run(str(base), *PIP, "download", *HASHED, "--requirement", str(lock), "--dest", str(wheels))
        # The system's own, as the script finds it.
        path = folder / "bin"
        path.mkdir(exist_ok=True)
        (path / "python3").unlink(missing_ok=True)
        (path / "python3").write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
        (path / "python3").chmod(0o755)
        run("sh", str(INSTALL), "--wheels", str(wheels), "--root", str(folder / "device"), path=path)
        run(str(python), *PIP, "install", *HASHED, "--requirement", str(TEST_LOCK))
        stamp.write_text(wanted)
    run(str(python), "-P", "-c", CHECK)
    return python


def _digest(lock: Path) -> str:
    """Of all that an installation is made from."""
    sources = [path for folder in ("edge/src", "images/src/atoll_contract") for path in (ROOT / folder).rglob("*.*")]
    files = sorted([lock, TEST_LOCK, INSTALL, *(path for path in sources if path.suffix in (".py", ".html"))])
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def run(*command: str, path: Path | None = None) -> None:
    # The user's own settings of pip stay: where packages come from.
    environment = os.environ | {"PYTHONPATH": ""}
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    subprocess.run(command, check=True, timeout=900, env=environment)


def main(folder: Path, version: str = "3.11") -> None:
    # Made with TensorFlow, which the installation has not.
    for side, signature in ((SIDE, False), (SIDE, True), (96, False)):
        colour_detector(side, signature=signature)
    for architecture in ("ssd-mobilenet-v2-fpnlite-192", "dfl-mobilenet-v2-fpn-192"):
        detector_file(architecture, 0.35)
    installed(folder.resolve(), version)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
