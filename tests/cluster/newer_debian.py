"""Programs of Debian 13 on Debian 12 whose own lack something: unpacked beside the cache, never installed."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from cluster.node_host import HostError, run, shared_folder

logger = logging.getLogger(__name__)

SUITE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DOWNLOAD_DEADLINE_SECONDS = 600


def unpacked(package: str) -> Path:
    """The folder with the package's files; fetched once. The packages that it depends on are not there."""
    folder = shared_folder() / f"{package}-{SUITE}"
    if folder.exists():
        return folder
    if shutil.which("apt-get") is None:
        raise HostError(f"the node needs {package} of Debian 13 at {folder}, and there is no apt-get to get it with")
    logger.info("fetching %s of Debian %s (once)", package, SUITE)
    work = folder.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    download = work / "download"
    (download / "lists" / "partial").mkdir(parents=True)
    (download / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n", encoding="utf-8")
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={download}/sources.list"]
    apt += ["-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State::lists={download}/lists"]
    run([*apt, "update"], timeout=DOWNLOAD_DEADLINE_SECONDS)
    # apt-get writes into the working folder.
    run(["env", f"--chdir={download}", *apt, "download", package], timeout=DOWNLOAD_DEADLINE_SECONDS)
    (archive,) = download.glob(f"{package}_*.deb")
    run(["dpkg-deb", "-x", str(archive), str(work / "files")])
    (work / "files").rename(folder)
    shutil.rmtree(work)
    return folder


def _mirror() -> str:
    """The Debian mirror that this machine's apt uses."""
    listed = run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages"])
    for line in listed.splitlines():
        origin, codename, address = line.split(" ", 2)
        if origin == "Debian" and "-" not in codename:
            return address
    raise HostError("apt's sources name no Debian mirror, and some of the node's programs are fetched from one")
