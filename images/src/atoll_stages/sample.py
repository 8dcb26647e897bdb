"""Puts one file into a bucket, and makes the bucket: `python -m atoll_stages.sample`, the Job of the quick start.

It waits for the server, which may still be starting. A file that is there already is not replaced.
"""

import argparse
import sys
import time
from pathlib import Path

from atoll_contract.errors import AtollError
from atoll_contract.stage import StoreSpec, StoreType
from atoll_contract.store import open_store
from atoll_contract.store.base import StoreForbidden, StoreUnavailable
from atoll_contract.store.s3_client import connect

RETRY_SECONDS = 2.0


def put_sample(spec: StoreSpec, *, key: str, file: Path, wait_seconds: float) -> str:
    """Puts the file, and returns one sentence on what was done.

    Raises:
        AtollError: the store refuses, or does not answer within `wait_seconds`.
    """
    make_bucket(spec, wait_seconds=wait_seconds)
    store = open_store(spec, lambda _: None)
    if store.head(key) is not None:
        return f"{store.url}{key} is there already"
    done = store.upload(key, file)
    return f"put {done.size} bytes to {store.url}{key}"


def make_bucket(spec: StoreSpec, *, wait_seconds: float) -> None:
    """Makes the store's bucket unless it is there; waits for the server.

    Raises:
        StoreForbidden: the server refuses.
        StoreUnavailable: it does not answer within `wait_seconds`.
    """
    from botocore import exceptions

    assert spec.bucket is not None
    client = connect(spec).client
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            client.create_bucket(Bucket=spec.bucket)
            return
        except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
            problem = str(error)
        except exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                return
            problem = str(error)
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                raise StoreForbidden(f"bucket {spec.bucket} at {spec.endpoint} could not be made: {problem}") from None
        if time.monotonic() >= deadline:
            raise StoreUnavailable(f"{spec.endpoint} did not answer within {wait_seconds:g} s: {problem}")
        time.sleep(RETRY_SECONDS)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m atoll_stages.sample", description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--credentials", required=True, help="folder with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    parser.add_argument("--wait-seconds", type=float, default=300.0)
    options = parser.parse_args(arguments)
    spec = StoreSpec(
        type=StoreType.S3, bucket=options.bucket, endpoint=options.endpoint, credentials_dir=options.credentials
    )
    try:
        print(put_sample(spec, key=options.key, file=options.file, wait_seconds=options.wait_seconds))
    except (AtollError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
