"""A versitygw server of the test's own, started as the chart's bundled store starts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from support.s3_server import S3Server


class VersityServer(S3Server):
    """See `S3Server`."""

    PROGRAM = "versitygw"
    HEALTH = "/health"

    def _arguments(self, address: str, folder: Path) -> Sequence[str]:
        objects, metadata = folder / "objects", folder / "metadata"
        for made in (objects, metadata):
            made.mkdir(exist_ok=True)
        return [
            "--port", address, "--health", "/health", "--quiet", "posix", "--sidecar", str(metadata), str(objects),
        ]  # fmt: skip

    def _environment(self) -> Mapping[str, str]:
        return {"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key}
