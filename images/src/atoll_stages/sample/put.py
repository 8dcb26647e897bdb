"""Puts the sample into a bucket, and makes the bucket, for the Job of the quick start.

It waits for the server, which may still be starting. A file that is there already is not replaced.
"""

import time
from collections.abc import Callable
from pathlib import Path

from atoll_contract.store import open_store
from atoll_contract.store.base import StoreForbidden, StoreUnavailable
from atoll_contract.store.s3_client import connect
from atoll_contract.store_spec import StoreSpec

RETRY_SECONDS = 2.0


def put_sample(spec: StoreSpec, *, key: str, draw: Callable[[], Path], wait_seconds: float) -> str:
    """Puts the file that `draw` makes, and returns one sentence on what was done.

    Raises:
        AtollError: the store refuses, or does not answer within `wait_seconds`.
    """
    make_bucket(spec, wait_seconds=wait_seconds)
    store = open_store(spec, lambda _: None)
    if store.head(key) is not None:
        return f"{store.url}{key} is there already"
    done = store.upload(key, draw())
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
