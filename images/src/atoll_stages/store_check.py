"""`python -m atoll_stages.store_check SPEC NAMESPACE` tries a bucket as a stage uses it: list, write, read, delete.

SPEC is a `StoreSpec` as JSON. Standard output is a `StoreCheck`; where ATOLL_TERMINATION_LOG names a file, it is
written there, too. The exit code is that of its reason. `atoll doctor` starts this in a pod that has the Secret.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

from atoll_contract.document import from_json, to_json
from atoll_contract.errors import AtollError, Reason, exit_code
from atoll_contract.keys import RunRef, run_prefix
from atoll_contract.stage import ENV_TERMINATION_LOG
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec
from atoll_contract.tool_reports import StoreCheck


def main(arguments: Sequence[str]) -> int:
    spec, namespace = from_json(StoreSpec, arguments[0].encode()), arguments[1]
    try:
        report = check_store(spec, namespace)
    except AtollError as error:
        report = StoreCheck(error.reason, error.message)
    data = to_json(report)
    print(data.decode())
    if path := os.environ.get(ENV_TERMINATION_LOG):
        Path(path).write_bytes(data)
    return int(exit_code(report.reason))


def check_store(spec: StoreSpec, namespace: str) -> StoreCheck:
    """Writes an object below `runs/` of this namespace, reads it back and deletes it.

    Raises:
        AtollError: the store does not do one of these.
    """
    store = S3Store.from_spec(spec)
    next(iter(store.list(run_prefix(RunRef(namespace, "doctor", "none")))), None)
    skew = _clock_skew(store, spec)
    if spec.anonymous:
        return StoreCheck(Reason.COMPLETED, f"{store.url} can be listed without credentials", skew)
    key, data = f"{run_prefix(RunRef(namespace, 'doctor', secrets.token_hex(8)))}check", secrets.token_bytes(32)
    store.put(key, data)
    try:
        if store.get(key) != data:
            raise AtollError(Reason.INTEGRITY_MISMATCH, f"{store.url} returns other bytes for {key} than were written")
    finally:
        store.delete(key)
    return StoreCheck(Reason.COMPLETED, f"{store.url} takes, returns and deletes an object", skew)


def _clock_skew(store: S3Store, spec: StoreSpec) -> float | None:
    """How many seconds this pod's clock is ahead of the server's; None where the server does not say."""
    answer = store.client.list_objects_v2(Bucket=spec.bucket or "", MaxKeys=1)
    try:
        dated = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))
    except ValueError:
        return None
    return round(time.time() - dated.timestamp(), 1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
