"""The files that hold the prepared images of a conversion, many in each."""

import os
from pathlib import Path

# A dataset of millions has a thousand packs, and records read them in an order of their own.
_MAX_OPEN = 64


class Packs:
    """The packs in `folder`, which is created. Their writers are elsewhere; one thread reads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        # By name, the one that was used last at the end.
        self._open: dict[str, int] = {}

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Returns `size` bytes of the pack `name` from `offset` on."""
        descriptor = self._open.pop(name, None)
        if descriptor is None:
            if len(self._open) >= _MAX_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            descriptor = os.open(self.folder / name, os.O_RDONLY)
        self._open[name] = descriptor
        return os.pread(descriptor, size, offset)

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
