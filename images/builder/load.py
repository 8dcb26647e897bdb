"""Brings images into a cluster that has no registry, by default those that the last build made."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from engine import Engine, EngineError

DEADLINE_SECONDS = 900
# Where k3s has another --data-dir than its default; its own scripts read this variable too.
K3S_FOLDER = "K3S_DATA_DIR"
K3S_DEFAULT = "/var/lib/rancher/k3s"
# The kubelet removes images that no pod uses when the disk fills up, but none with this mark.
_PINNED = "io.cri-containerd.pinned=pinned"


def write_built(path: Path, references: Iterable[str]) -> None:
    """Remember what one build made, by the names that the container engine knows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{reference}\n" for reference in references), encoding="utf-8")


def read_built(path: Path) -> list[str]:
    """What the last build made; empty if there was none."""
    try:
        return path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []


def k3s_images_folder() -> Path:
    """Where k3s looks for archives at each start; it imports them all and pins their images."""
    return Path(os.environ.get(K3S_FOLDER) or K3S_DEFAULT) / "agent" / "images"


def load_into_k3s(engine: Engine, references: Sequence[str]) -> None:
    """Leave an archive of each image in k3s's folder, and import it now as well.

    An image that is only imported has no mark that spares it, and nothing would bring it back.
    """
    if shutil.which("k3s") is None:
        raise EngineError("there is no 'k3s' on the PATH: run this on the cluster's machine")
    for reference in references:
        archive = save_for_k3s(engine, reference, k3s_images_folder())
        _run(["k3s", "ctr", "images", "import", str(archive)])
        _run(["k3s", "ctr", "images", "label", reference, _PINNED], show=False)
        print(f"{reference}: imported into k3s and pinned; {archive} brings it back at each start of k3s", flush=True)


def save_for_k3s(engine: Engine, reference: str, folder: Path) -> Path:
    """Write the image's archive into such a folder, in the place of an earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"atoll-{_short(reference)}.tar"
    # k3s would read a file that ends in .tar while it is still being written.
    unfinished = archive.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        engine.save(reference, unfinished)
        unfinished.replace(archive)
    finally:
        unfinished.unlink(missing_ok=True)
    return archive


def load_into_kind(engine: Engine, references: Sequence[str], name: str) -> None:
    """Import each image into the nodes of the kind cluster `name`."""
    with TemporaryDirectory() as folder:
        for reference in references:
            archive = Path(folder) / f"{_short(reference)}.tar"
            engine.save(reference, archive)
            _run(["kind", "load", "image-archive", "--name", name, str(archive)])
            archive.unlink()
            print(f"{reference}: imported into kind", flush=True)


def _short(reference: str) -> str:
    return reference.rpartition("/")[2].partition(":")[0]


def _run(command: list[str], *, show: bool = True) -> None:
    try:
        subprocess.run(command, check=True, timeout=DEADLINE_SECONDS, stdout=None if show else subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise EngineError(f"there is no {command[0]!r} on the PATH: run this on the cluster's machine") from error
    except subprocess.CalledProcessError as error:
        raise EngineError(f"{' '.join(command[:4])} failed with exit code {error.returncode} (needs root)") from error
