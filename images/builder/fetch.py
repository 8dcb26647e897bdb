"""`fetch.py URL SHA256 FOLDER`: fetches one file and keeps it only if its digest is the one that was named.

A file of the builder's own is named `file:///tmp/external/NAME`, where the Dockerfile has put it. Standard library
only: it runs inside image builds, on whatever Python the base has.
"""

import hashlib
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 60
CHUNK_BYTES = 1 << 20
OWN_FILES = "file:///tmp/external/"


def fetch(url: str, sha256: str, folder: Path) -> Path:
    """Path of the file in `folder`, named as in the URL. Raises ValueError for a wrong or missing digest."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(
            f"the sha256 of {url} is {sha256!r}, not 64 hex digits: get the file from a source you trust, "
            "compute its sha256 and write that into images/external.lock"
        )
    name = Path(urllib.parse.urlparse(url).path).name
    if not url.startswith(("https://", OWN_FILES)) or not name:
        raise ValueError(f"{url!r} is neither the https address of a file nor {OWN_FILES}NAME")
    target = folder / name
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, target.open("wb") as file:  # noqa: S310
        while chunk := answer.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        target.unlink()
        raise ValueError(f"{url} has the sha256 {digest.hexdigest()}, expected {sha256}: it was not kept")
    return target


def main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    url, sha256, folder = arguments
    try:
        path = fetch(url, sha256, Path(folder))
    except (ValueError, urllib.error.URLError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"fetched {path} ({path.stat().st_size} bytes, sha256 {sha256})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
