"""Finds and downloads the run's datasets, and hashes them with the options into the key of the dataset cache."""

import hashlib
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from atoll_contract.archive.extract import ARCHIVE_SUFFIXES
from atoll_contract.archive.limits import safe_name, shown, size
from atoll_contract.convert_spec import ConvertSpec, DatasetFormat, DatasetLimits, DatasetSource
from atoll_contract.document import Document, replace, to_json
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.files import file_sha256
from atoll_contract.store import open_store
from atoll_contract.store.base import ObjectInfo, ObjectNotFound, PreconditionFailed, Store
from atoll_contract.store_spec import StoreSpec
from atoll_stages.convert.images import JPEG_QUALITY, LONG_SIDE, MAX_PLAIN_SIDE

# Raise it whenever the same input gives other records; old cache entries are then not found any more.
RECORDS_VERSION = 4

# Called with the number of bytes of each downloaded block; may raise to end the work.
OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class FoundSource:
    """An archive in a store, or a prefix (its key ends in `/`) with the files of a dataset.

    `sha256` (hex) is the one that the spec requires, else the one that the store knows, else None.
    """

    key: str
    store: Store
    format: DatasetFormat
    info: ObjectInfo
    sha256: str | None
    sha256_required: bool = False


def find_sources(
    spec: ConvertSpec, store: Store, *, open_other: Callable[[StoreSpec], Store] = open_store
) -> list[FoundSource]:
    """Returns every archive that the spec names, in its order, with prefixes expanded. `open_other` opens the stores
    that datasets name of their own.

    Raises:
        DatasetError: DatasetNotFound, DatasetTooLarge.
        SpecError: the spec names no dataset, or gives a digest for a prefix.
    """
    stores = [(source, store if source.store is None else open_other(source.store)) for source in spec.sources]
    found = [item for source, own in stores for item in _expand(source, own)]
    if not found:
        raise SpecError("the run names no dataset")
    for item in found:
        if item.info.size > spec.limits.archive_bytes:
            raise DatasetError(
                Reason.DATASET_TOO_LARGE,
                f"{item.key} has {size(item.info.size)}, limit {size(spec.limits.archive_bytes)}",
            )
    return found


def _expand(source: DatasetSource, store: Store) -> Iterator[FoundSource]:
    if not source.key.endswith("/"):
        info = store.head(source.key)
        if info is None:
            raise ObjectNotFound(
                f"there is no {shown(source.key)} in {store.url}; put the archive there: atoll push FILE, or atoll run "
                "--data FILE"
            )
        required = None if source.digest is None else source.digest.removeprefix("sha256:").lower()
        yield FoundSource(source.key, store, source.format, info, required or info.sha256, source.digest is not None)
        return
    if source.digest is not None:
        raise SpecError(f"dataset {shown(source.key)}: a digest pins one archive, not all below a prefix")
    archives = files = 0
    for info in store.list(source.key):
        files += 1
        if info.key.lower().endswith(ARCHIVE_SUFFIXES):
            archives += 1
            yield FoundSource(info.key, store, source.format, info, info.sha256)
    if not files:
        raise ObjectNotFound(f"there is nothing below {shown(source.key)} in {store.url}; put an archive there")
    if not archives:
        # The prefix is the dataset's own folder.
        yield FoundSource(source.key, store, source.format, ObjectInfo(source.key, 0, ""), None)


@dataclass(frozen=True)
class FetchedSource:
    """An archive, or the folder of a downloaded prefix, on this disk."""

    found: FoundSource
    path: Path
    sha256: str


def fetch_sources(
    found: Sequence[FoundSource], folder: Path, *, limits: DatasetLimits, on_bytes: OnBytes
) -> list[FetchedSource]:
    """Downloads every source; a required digest is compared before the archive is opened.

    Raises:
        IntegrityError: an archive does not have the required digest.
        DatasetError: DatasetChanged, an archive was replaced since it was found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fetched = []
    for number, item in enumerate(found):
        path = folder / f"{number:04d}{_suffix(item.key)}"
        try:
            if item.key.endswith("/"):
                sha256 = download_prefix(item.store, item.key, path, limits=limits, on_bytes=on_bytes)
            else:
                required = item.sha256 if item.sha256_required else None
                info = item.store.download(item.key, path, sha256=required, etag=item.info.etag, transferred=on_bytes)
                sha256 = info.sha256 or file_sha256(path)
        except PreconditionFailed:
            raise DatasetError(
                Reason.DATASET_CHANGED,
                f"{item.key} in {item.store.url} was replaced while it was read; start the run again, or pin a digest",
            ) from None
        fetched.append(FetchedSource(item, path, sha256))
    return fetched


def download_prefix(store: Store, prefix: str, folder: Path, *, limits: DatasetLimits, on_bytes: OnBytes) -> str:
    """Downloads every file below `prefix`, and returns the hex digest of their names and contents.

    Raises:
        DatasetError: DatasetUnsafe, a key leads outside the folder; DatasetTooLarge.
    """
    digest, total = hashlib.sha256(), 0
    for number, info in enumerate(store.list(prefix), start=1):
        name = safe_name(info.key.removeprefix(prefix).encode(), number=number, limits=limits)
        total += info.size
        if number > limits.members or total > limits.expanded_bytes or info.size > limits.member_bytes:
            raise DatasetError(
                Reason.DATASET_TOO_LARGE,
                f"{shown(prefix)} at file {number} {shown(name)}: {size(total)} so far; limits are {limits.members} "
                f"files, {size(limits.expanded_bytes)}, and {size(limits.member_bytes)} for each",
            )
        if not name:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fetched = store.download(info.key, path, etag=info.etag, transferred=on_bytes)
        digest.update(f"{fetched.sha256}  {name}\n".encode())
    return digest.hexdigest()


def _suffix(key: str) -> str:
    name = PurePosixPath(key).name.lower()
    return next((suffix for suffix in ARCHIVE_SUFFIXES if name.endswith(suffix)), "")


class _CacheKey(Document, frozen=True):
    """Everything that the records depend on."""

    records_version: int
    codec: str
    sides: tuple[int, int]
    jpeg_quality: int
    contents: tuple[str, ...]
    spec: ConvertSpec


def dataset_digest(sha256s: Sequence[str], formats: Sequence[DatasetFormat], spec: ConvertSpec) -> str:
    """Returns the hex digest of contents and options: equal digests mean equal records."""
    contents = tuple(f"{sha256} {form}" for sha256, form in zip(sha256s, formats, strict=True))
    # The location of the archives does not matter, nor how many processes read them.
    options = replace(spec, sources=(), shards=None)
    key = _CacheKey(RECORDS_VERSION, _codec(), (LONG_SIDE, MAX_PLAIN_SIDE), JPEG_QUALITY, contents, options)
    return hashlib.sha256(to_json(key)).hexdigest()


def _codec() -> str:
    """Names what decodes and encodes images: another version, or another processor, may give other bytes.

    zlib is not among them: what it packs is the same again, whichever version a process has loaded."""
    from PIL import __version__, features

    libraries = [f"{name} {features.version(name)}" for name in ("jpg", "webp", "libtiff", "avif")]
    return ", ".join([f"Pillow {__version__}", *libraries, platform.machine()])
