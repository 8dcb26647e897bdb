"""What the shards of a conversion exchange: batches of image files, and what became of them, as objects in the store.

An object is the length of a header in eight bytes, the header as MessagePack, and the bytes of the files one after
the other.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from atoll_contract.document import DecodeError, Document, from_json, learn, to_json
from atoll_contract.errors import IntegrityError
from atoll_contract.keys import RunRef, conversion_batches, conversion_plan
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_stages.convert.prepared import ImageFacts, ImageFile, PreparedFile, RecordImage

# A batch is full with so many files or so many bytes. Which files are in which one depends on the archives alone, so
# that a later attempt finds what an earlier one has prepared.
BATCH_FILES = 256
BATCH_BYTES = 32 * 2**20
_LENGTH = struct.Struct("<Q")
_MAX_HEADER = 2**26
_Header = TypeVar("_Header", bound=msgspec.Struct)


class ShardPlan(Document, frozen=True):
    """What index 0 tells the other shards of its attempt. `beats` grows as long as it is alive.

    `digest` is that of the dataset, once it is known. `ended`: there is nothing to do any more.
    """

    beats: int
    digest: str | None = None
    ended: bool = False


class _GivenFile(msgspec.Struct, frozen=True):
    id: int
    name: str
    size: int


class _GivenBatch(msgspec.Struct, frozen=True):
    files: tuple[_GivenFile, ...]


class _PreparedImage(msgspec.Struct, frozen=True):
    id: int
    facts: ImageFacts
    image: RecordImage | None


class _PreparedBatch(msgspec.Struct, frozen=True):
    files: tuple[_PreparedImage, ...]


class BatchStore:
    """The batches of one conversion, below the prefix of its run. `scratch` is a folder on this disk."""

    def __init__(self, store: Store, run: RunRef, scratch: Path) -> None:
        self._store, self._run, self._scratch = store, run, scratch
        scratch.mkdir(parents=True, exist_ok=True)

    def write_plan(self, attempt: int, plan: ShardPlan) -> None:
        self._store.put(conversion_plan(self._run, attempt), to_json(plan))

    def read_plan(self, attempt: int) -> ShardPlan | None:
        try:
            return from_json(ShardPlan, self._store.get(conversion_plan(self._run, attempt)))
        except (ObjectNotFound, DecodeError):
            return None

    def is_given(self, digest: str, number: int) -> bool:
        return self._store.head(self._given(digest, number)) is not None

    def is_prepared(self, digest: str, number: int) -> bool:
        return self._store.head(self._prepared(digest, number)) is not None

    def give(self, digest: str, number: int, files: Sequence[ImageFile]) -> None:
        """Uploads the files of a batch."""
        sizes = [file.read_size() for file in files]
        header = _GivenBatch(
            tuple(_GivenFile(file.id, file.name, size) for file, size in zip(files, sizes, strict=True))
        )
        self._upload(self._given(digest, number), header, (file.read() for file in files))

    def take(self, digest: str, number: int, path: Path) -> list[ImageFile]:
        """Downloads a batch to `path`, and returns its files there.

        Raises:
            ObjectNotFound: it is not given, or no longer.
            IntegrityError: it is damaged.
        """
        header, at = self._download(self._given(digest, number), path, _GivenBatch)
        found = []
        for file in header.files:
            found.append(ImageFile(file.id, file.name, str(path), at, file.size))
            at += file.size
        return found

    def put_prepared(self, digest: str, number: int, files: Sequence[PreparedFile], folder: Path) -> None:
        """Uploads what became of a batch; the packs of its images are in `folder`."""
        at, moved = 0, []
        for file in files:
            image = None if file.image is None else file.image._replace(pack="", offset=at)
            moved.append(_PreparedImage(file.id, file.facts, image))
            at += 0 if image is None else image.size
        kept = (
            ImageFile(file.id, "", str(folder / file.image.pack), file.image.offset, file.image.size).read()
            for file in files
            if file.image is not None
        )
        self._upload(self._prepared(digest, number), _PreparedBatch(tuple(moved)), kept)

    def take_prepared(self, digest: str, number: int, pack: Path) -> list[PreparedFile]:
        """Downloads what became of a batch as the file `pack`, and compares every image with its digest.

        Raises:
            ObjectNotFound: it is not there.
            IntegrityError: it is damaged.
        """
        key = self._prepared(digest, number)
        header, start = self._download(key, pack, _PreparedBatch)
        found = []
        for file in header.files:
            image = file.image
            if image is not None:
                image = image._replace(pack=pack.name, offset=start + image.offset)
                data = ImageFile(file.id, "", str(pack), image.offset, image.size).read()
                if hashlib.sha256(data).hexdigest() != image.sha256:
                    raise IntegrityError(f"{key} in {self._store.url} is damaged: example {file.id} has other bytes")
            found.append(PreparedFile(file.id, file.facts, image))
        return found

    def _upload(self, key: str, header: msgspec.Struct, pieces: Iterable[bytes]) -> None:
        path = self._scratch / "batch"
        data = msgspec.msgpack.encode(header)
        with path.open("wb") as stream:
            stream.write(_LENGTH.pack(len(data)) + data)
            stream.writelines(pieces)
        self._store.upload(key, path)
        path.unlink()

    def _download(self, key: str, path: Path, kind: type[_Header]) -> tuple[_Header, int]:
        self._store.download(key, path)
        learn(kind)
        with path.open("rb") as stream:
            head = stream.read(_LENGTH.size)
            length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else _MAX_HEADER + 1
            try:
                header = msgspec.msgpack.decode(stream.read(length) if length <= _MAX_HEADER else b"", type=kind)
            except msgspec.DecodeError as error:
                raise IntegrityError(f"{key} in {self._store.url} is damaged: {error}") from None
        return header, _LENGTH.size + length

    def _given(self, digest: str, number: int) -> str:
        return f"{conversion_batches(self._run, digest)}{number:05d}.given"

    def _prepared(self, digest: str, number: int) -> str:
        return f"{conversion_batches(self._run, digest)}{number:05d}.prepared"
