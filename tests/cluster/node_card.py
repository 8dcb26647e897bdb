"""A node's own disk of a few gigabytes, as a Pi's card is: a file with a file system in it, mounted in a loop.

With ATOLL_TEST_CARD_GB the node has its images, pods and logs there, and a kubelet that minds how full it is.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cluster.node_host import card_gigabytes, disk_folder, node_folder, run

GIGABYTE = 1 << 30
IMAGE = node_folder() / "card.img"
FILLER = disk_folder() / "filler"


def create() -> None:
    """An empty card in the place of an earlier one; nothing where the node has the machine's disk."""
    if not card_gigabytes():
        return
    remove()
    disk_folder().mkdir(parents=True, exist_ok=True)
    with IMAGE.open("wb") as image:
        # Takes up only what is written to it.
        image.truncate(card_gigabytes() * GIGABYTE)
    run(["mkfs.ext4", "-q", "-m", "0", str(IMAGE)])
    run(["mount", "-o", "loop", str(IMAGE), str(disk_folder())])


def remove() -> None:
    """Unmounts the card and deletes it; nothing may run from it any more."""
    if not card_gigabytes():
        return
    while os.path.ismount(disk_folder()):
        run(["umount", "--lazy", str(disk_folder())])
    IMAGE.unlink(missing_ok=True)


def used_percent() -> float:
    """As the kubelet counts it."""
    usage = shutil.disk_usage(disk_folder())
    return 100 * (1 - usage.free / usage.total)


def fill(percent: float) -> None:
    """Makes the card so full by one file, without writing to it."""
    empty()
    usage = shutil.disk_usage(disk_folder())
    missing = int(usage.free - usage.total * (1 - percent / 100))
    assert missing > 0, f"the card is {used_percent():.0f} % full already"
    with FILLER.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, missing)


def empty() -> None:
    """Takes the file away again."""
    Path(FILLER).unlink(missing_ok=True)
