"""Buckets of a test's own on a test's own server."""

from pathlib import Path
from typing import Any, cast

from atoll_contract.document import replace
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec, StoreType
from support.s3_server import S3Server


def write_credentials(folder: Path, access_key: str, secret_key: str, *, token: str | None = None) -> Path:
    """Credentials as a mounted Secret has them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "AWS_ACCESS_KEY_ID").write_text(access_key)
    (folder / "AWS_SECRET_ACCESS_KEY").write_text(secret_key + "\n")
    if token is not None:
        (folder / "AWS_SESSION_TOKEN").write_text(token)
    return folder


def bucket_spec(server: S3Server, bucket: str, credentials: Path, *, prefix: str = "atoll/") -> StoreSpec:
    """A new bucket, and the spec of a store in it."""
    write_credentials(credentials, server.access_key, server.secret_key)
    spec = StoreSpec(
        StoreType.S3, bucket=bucket, prefix=prefix, endpoint=server.endpoint, credentials_dir=str(credentials)
    )
    S3Store(spec).client.create_bucket(Bucket=bucket)
    return spec


def raw_client(spec: StoreSpec) -> Any:
    """The client of the whole bucket, to look at what a store left there."""
    return cast(Any, S3Store(replace(spec, prefix="")).client)
