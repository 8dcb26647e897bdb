"""Images for the node without a registry: a Debian base made here, the project's Dockerfiles, imports by archive."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.binaries import cache_folder, ensure
from cluster.node_containerd import PAUSE_IMAGE, images, import_archive
from cluster.node_host import HostError, node_folder, run

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
BASE_IMAGE = "localhost/atoll-test/base:1"
STORE_IMAGE = "localhost/atoll-test/versitygw:1"
TAG = "test"
SUITE = "bookworm"  # its Python is 3.11, the one that every lock is made for
PACKAGES = "ca-certificates,python3,python3-venv"
BASE_DEADLINE_SECONDS = 900
BUILD_DEADLINE_SECONDS = 3600
ENGINE_FLAGS = (
    "--storage-driver=overlay",
    f"--root={cache_folder() / 'containers'}",
    "--runroot=/run/atoll-test-containers",
)
BUILD_FLAGS = ("--isolation=oci", "--runtime=runc", "--network=host", "--layers")


def ensure_base() -> str:
    """Name of the base image: ATOLL_TEST_BASE, else a minimal Debian made here once (two minutes)."""
    given = os.environ.get("ATOLL_TEST_BASE")
    if given:
        return given
    if not _buildah("images", "--quiet", "--filter", f"reference={BASE_IMAGE}").strip():
        archive = node_folder() / "base.tar"
        archive.parent.mkdir(parents=True, exist_ok=True)
        logger.info("making the base image from Debian packages (once; two minutes)")
        slim = ["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]
        debootstrap = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", *slim, SUITE]
        run([*debootstrap, str(archive)], timeout=BASE_DEADLINE_SECONDS)
        _image(BASE_IMAGE, {archive: "/"}, "--env", "PATH=/usr/local/bin:/usr/bin:/bin")
        archive.unlink()
    return BASE_IMAGE


def ensure_pause_archive() -> Path:
    """The archive of the sandboxes' image: the base again, asleep, so it costs no second download or compiler."""
    archive = node_folder() / "pause.tar"
    if not archive.exists():
        _image(PAUSE_IMAGE, {}, "--cmd", '["/usr/bin/sleep","infinity"]', base=ensure_base())
        _save(PAUSE_IMAGE, archive)
    return archive


def build(names: Sequence[str]) -> dict[str, str]:
    """Builds the named images from the project's Dockerfiles, as `make images` does; name → image reference."""
    command = [sys.executable, "-P", str(ROOT / "images" / "builder"), "build", "--engine", "buildah"]
    command += [f"--engine-flag={flag}" for flag in ENGINE_FLAGS]
    command += [f"--build-flag={flag}" for flag in BUILD_FLAGS]
    # Without the commit in a label, the same sources are the same image, and need not be imported again.
    command += ["--revision", "test"]
    command += ["--base", ensure_base(), "--tag", TAG, "--values", str(node_folder() / "values.yaml"), *names]
    log = node_folder() / "image-build.log"
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=BUILD_DEADLINE_SECONDS
        )
    text = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode != 0:
        raise HostError(f"the images do not build; {log} ends with:\n{text[-3000:]}")
    for line in text.splitlines():
        if " MB over the base" in line:
            logger.info("%s", line)
    return {name: reference(name) for name in names}


def reference(name: str) -> str:
    """What an image built here is called."""
    return f"localhost/atoll/{name}:{TAG}"


def helm_image(reference: str) -> dict[str, str]:
    """The charts' way to name an image."""
    registry, _, rest = reference.partition("/")
    repository, _, tag = rest.partition(":")
    return {"registry": registry, "repository": repository, "tag": tag}


def ensure_store() -> str:
    """The image of the bundled S3 server (versitygw, built from its Go module), made once."""
    if not _buildah("images", "--quiet", "--filter", f"reference={STORE_IMAGE}").strip():
        _image(STORE_IMAGE, {ensure("versitygw"): "/app/versitygw"}, "--entrypoint", '["/app/versitygw"]')
    return STORE_IMAGE


def load(reference: str) -> None:
    """Imports the image into the node, unless the node already has this very one."""
    identity = _buildah("images", "--quiet", "--no-trunc", reference).strip()
    mark = node_folder() / "imported" / reference.replace("/", "_")
    known = mark.read_text(encoding="utf-8") if mark.exists() else ""
    if known == identity and reference in images():
        return
    archive = node_folder() / "import.tar"
    try:
        _save(reference, archive)
        import_archive(archive)
    finally:
        archive.unlink(missing_ok=True)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(identity, encoding="utf-8")


def _image(name: str, files: dict[Path, str], *config: str, base: str = "scratch") -> None:
    container = _buildah("from", base).strip()
    try:
        for source, target in files.items():
            _buildah("add", "--quiet", container, str(source), target)
        _buildah("config", *config, container)
        _buildah("commit", "--quiet", container, name)
    finally:
        _buildah("rm", container)


def _save(reference: str, archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    _buildah("push", reference, f"docker-archive:{archive}:{reference}")


def _buildah(*arguments: str) -> str:
    if shutil.which("buildah") is None:
        raise HostError("there is no buildah on the PATH: apt-get install buildah")
    return run(["buildah", *ENGINE_FLAGS, *arguments], timeout=BASE_DEADLINE_SECONDS)
