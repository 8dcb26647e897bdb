"""`python -m support.release_fetch`: fetches a release from an S3 store by its manifest's key, as a Pi would.

A program of its own because it has to run inside the node's network namespace. Credentials come from the environment.
Files land in the folder under their digests, with `manifest.json` beside them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from atoll_contract.document import from_json
from atoll_contract.release import Manifest
from atoll_contract.store import open_store
from atoll_contract.store_spec import StoreSpec, StoreType


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m support.release_fetch", description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--manifest", required=True, help="key")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    store = open_store(StoreSpec(type=StoreType.S3, bucket=options.bucket, endpoint=options.endpoint))
    data = store.get(options.manifest)
    (options.folder / "manifest.json").write_bytes(data)
    for item in from_json(Manifest, data).files:
        store.download(item.key, options.folder / item.sha256, sha256=item.sha256)
    return 0


if __name__ == "__main__":
    sys.exit(main())
