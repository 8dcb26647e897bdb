"""A MinIO server of the test's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from support.s3_server import S3Server


class MinioServer(S3Server):
    """See `S3Server`."""

    PROGRAM = "minio"
    HEALTH = "/minio/health/ready"

    def _arguments(self, address: str, folder: Path) -> Sequence[str]:
        data = folder / "data"
        data.mkdir(exist_ok=True)
        return ["server", "--quiet", "--address", address, str(data)]

    def _environment(self) -> Mapping[str, str]:
        root = {"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key}
        return root | {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
