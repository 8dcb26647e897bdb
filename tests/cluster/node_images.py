"""Images for the node without a registry: a Debian base made here, the project's Dockerfiles, imports by archive."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atoll_contract.stage import Stage
from cluster.binaries import cache_folder, ensure
from cluster.node_containerd import PAUSE_IMAGE, images, import_archive
from cluster.node_host import HostError, node_folder, run, shared_folder

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
BASE_IMAGE = "localhost/atoll-test/base:1"
STORE_IMAGE = "localhost/atoll-test/versitygw:1"
NOOP_IMAGE = "localhost/atoll-test/noop-stages:1"
STRAY_IMAGE = "localhost/atoll-test/stray:2"
TAG = "test"
SUITE = "bookworm"  # its Python is 3.11, the one that every lock is made for
PACKAGES = "ca-certificates,python3,python3-venv"
# Another architecture's programs run under emulation, on a machine that may be busy.
BASE_DEADLINE_SECONDS = 1800
BUILD_DEADLINE_SECONDS = 3600
STORAGE_ROOT = cache_folder() / "containers"
STORAGE_RUN = Path("/run/atoll-test-containers")
ENGINE_FLAGS = ("--storage-driver=overlay", f"--root={STORAGE_ROOT}", f"--runroot={STORAGE_RUN}")
NOOP_STAGES = ROOT / "tests" / "support" / "noop_stages" / "__main__.py"
_NOOP_STAGE = """\
from atoll_contract.stage import Stage
from atoll_stages.runtime.entry import run_stage
from noop_stages.__main__ import work

if __name__ == "__main__":
    raise SystemExit(run_stage(Stage.{stage}, work))
"""
BUILD_FLAGS = ("--isolation=oci", "--runtime=runc", "--network=host", "--layers")


def ensure_base(arch: str = "") -> str:
    """Name of the base image: ATOLL_TEST_BASE, else a minimal Debian made here once (two minutes).

    One of another architecture than this machine's takes twice as long, and programs of that architecture have to run
    here (`node_emulation`).
    """
    given = os.environ.get("ATOLL_TEST_BASE")
    if given and not arch:
        return given
    image = f"{BASE_IMAGE}-{arch}" if arch else BASE_IMAGE
    if not _buildah("images", "--quiet", "--filter", f"reference={image}").strip():
        archive = shared_folder() / f"base{arch and '-'}{arch}.tar"
        archive.parent.mkdir(parents=True, exist_ok=True)
        logger.info("making the base image %s from Debian packages (once; minutes)", image)
        slim = ["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]
        # The kernel runs the foreign programs by itself; mmdebstrap's own check knows Debian's qemu alone.
        foreign = [f"--architecture={arch}", "--skip=check/qemu"] if arch else []
        debootstrap = [
            "mmdebstrap",
            "--quiet",
            "--format=tar",
            "--variant=minbase",
            f"--include={PACKAGES}",
            *foreign,
            *slim,
            SUITE,
        ]
        if not archive.exists():
            unfinished = archive.with_suffix(".new")
            run([*debootstrap, str(unfinished)], timeout=BASE_DEADLINE_SECONDS)
            unfinished.rename(archive)
        config = ["--env", "PATH=/usr/local/bin:/usr/bin:/bin", *(["--arch", arch] if arch else [])]
        _image(image, {archive: "/"}, *config)
        archive.unlink()
    return image


def ensure_pause_archive() -> Path:
    """The archive of the sandboxes' image: the base again, asleep, so it costs no second download or compiler."""
    archive = shared_folder() / "pause.tar"
    if not archive.exists():
        _image(PAUSE_IMAGE, {}, "--cmd", '["/usr/bin/sleep","infinity"]', base=ensure_base())
        _save(PAUSE_IMAGE, archive)
    return archive


def build(names: Sequence[str], *, arch: str = "") -> dict[str, str]:
    """Builds the named images from the project's Dockerfiles, as `make images` does; name → image reference.

    `arch` is one that is not this machine's own.
    """
    command = [sys.executable, "-P", str(ROOT / "images" / "builder"), "build", "--engine", "buildah"]
    command += [f"--engine-flag={flag}" for flag in ENGINE_FLAGS]
    command += [f"--build-flag={flag}" for flag in BUILD_FLAGS]
    # Without the commit in a label, the same sources are the same image, and need not be imported again.
    command += ["--revision", "test"]
    command += ["--base", ensure_base(arch), "--tag", _tag(arch), *(["--arch", arch] if arch else [])]
    command += ["--values", str(node_folder() / "values.yaml"), *names]
    node_folder().mkdir(parents=True, exist_ok=True)
    log = node_folder() / f"image-build{arch and '-'}{arch}.log"
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
    return {name: reference(name, arch=arch) for name in names}


def reference(name: str, *, arch: str = "") -> str:
    """What an image built here is called."""
    return f"localhost/atoll/{name}:{_tag(arch)}"


def _tag(arch: str) -> str:
    return f"{TAG}-{arch}" if arch else TAG


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


def make_noop_stages(plan: dict[str, Any]) -> str:
    """The convert image, in which every stage is that of `support.noop_stages` under this plan."""
    folder = node_folder() / "noop-stages"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = {NOOP_STAGES: "/opt/atoll/src/noop_stages/__main__.py"}
    for stage in Stage:
        program = folder / f"{stage}.py"
        program.write_text(_NOOP_STAGE.format(stage=stage.name), encoding="utf-8")
        files[program] = f"/opt/atoll/src/atoll_stages/{stage}/__main__.py"
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    files[folder / "plan.json"] = "/opt/noop/plan.json"
    _image(NOOP_IMAGE, files, "--env", "NOOP_PLAN=/opt/noop", base=reference("convert"))
    return NOOP_IMAGE


def ensure_stray() -> str:
    """A small image that is nobody's: the base with one more file, so that no other name stands for it."""
    if not _buildah("images", "--quiet", "--filter", f"reference={STRAY_IMAGE}").strip():
        _image(STRAY_IMAGE, {Path(__file__): "/opt/stray"}, base=ensure_base())
    return STRAY_IMAGE


def load_as(reference: str, name: str) -> None:
    """Imports the image into the node under the name that a registry's would have."""
    archive = node_folder() / "import.tar"
    try:
        _save(reference, archive, name=name)
        import_archive(archive)
    finally:
        archive.unlink(missing_ok=True)


def load(reference: str, *, arch: str = "") -> None:
    """Imports the image into the node, unless the node already has this very one."""
    identity = _buildah("images", "--quiet", "--no-trunc", reference).strip()
    mark = node_folder() / "imported" / reference.replace("/", "_")
    known = mark.read_text(encoding="utf-8") if mark.exists() else ""
    if known == identity and reference in images():
        return
    archive = node_folder() / "import.tar"
    try:
        _save(reference, archive)
        import_archive(archive, arch=arch)
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


def _save(reference: str, archive: Path, *, name: str = "") -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    _buildah("push", reference, f"docker-archive:{archive}:{name or reference}")


def _buildah(*arguments: str) -> str:
    if shutil.which("buildah") is None:
        raise HostError("there is no buildah on the PATH: apt-get install buildah")
    return run(["buildah", *ENGINE_FLAGS, *arguments], timeout=BASE_DEADLINE_SECONDS)
