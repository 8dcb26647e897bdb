"""The agent as a Pi gets it, for the tests: `python -m support.edge_install FOLDER`, run from `tests/`.

Wheels of the edge image's lock are downloaded, `install.sh` installs from them without a network, below FOLDER, and
pytest is added. What was downloaded and installed for the same files is used again.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from support.edge_model import SIDE, colour_detector

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "edge" / "systemd" / "install.sh"
LOCK = ROOT / "images" / "edge" / "requirements.txt"
TEST_LOCK = ROOT / "tests" / "requirements-edge.txt"
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
HASHED = ("--require-hashes", "--only-binary=:all:")
# The edge's own limits: pycoral knows NumPy 1 only, and nothing of the training side may be needed.
CHECK = """
import importlib.util, numpy, sys
assert numpy.__version__ < "2", numpy.__version__
for name in ("tensorflow", "kopf", "kubernetes", "atoll_operator", "atoll_stages"):
    assert importlib.util.find_spec(name) is None, name
print("installed: Python", sys.version.split()[0], "NumPy", numpy.__version__)
"""


def installed(folder: Path) -> Path:
    """The interpreter of an installation below `folder`, with pytest."""
    python = folder / "device" / "opt" / "atoll-edge" / "bin" / "python"
    stamp = folder / "stamp"
    wanted = _digest()
    if not python.is_file() or not stamp.is_file() or stamp.read_text() != wanted:
        wheels = folder / "wheels"
        run(sys.executable, *PIP, "download", *HASHED, "--requirement", str(LOCK), "--dest", str(wheels))
        run("sh", str(INSTALL), "--wheels", str(wheels), "--root", str(folder / "device"))
        run(str(python), *PIP, "install", *HASHED, "--requirement", str(TEST_LOCK))
        stamp.write_text(wanted)
    run(str(python), "-P", "-c", CHECK)
    return python


def _digest() -> str:
    """Of all that an installation is made from."""
    sources = [path for folder in ("edge/src", "images/src/atoll_contract") for path in (ROOT / folder).rglob("*.*")]
    files = sorted([LOCK, TEST_LOCK, INSTALL, *(path for path in sources if path.suffix in (".py", ".html"))])
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def run(*command: str) -> None:
    # The user's own settings of pip stay: where packages come from.
    subprocess.run(command, check=True, timeout=900, env=os.environ | {"PYTHONPATH": ""})


def main(folder: Path) -> None:
    # Made with TensorFlow, which the installation has not.
    for side, signature in ((SIDE, False), (SIDE, True), (96, False)):
        colour_detector(side, signature=signature)
    installed(folder.resolve())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
