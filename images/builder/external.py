"""`images/external.lock`: what no package registry has, by URL and sha256 or as a file that the builder has."""

import hashlib
import re
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

WEIGHTS = "imagenet-weights"
# What `given_files` puts into the context, and where the Dockerfiles copy it to.
CONTEXT_FOLDER, IMAGE_FOLDER = "images/external", "file:///tmp/external/"
# As in atoll_contract.keys, which needs packages that a builder may lack.
_WEIGHTS_NAME = (
    r"mobilenet_v2_(?:([0-9.]+)_224_no_top\.weights|weights_tf_dim_ordering_tf_kernels_([0-9.]+)_224_no_top)\.h5"
)


class LockError(RuntimeError):
    """A build asks for what it cannot have; the message says what to do."""


@dataclass(frozen=True)
class ExternalFile:
    """One file and the build argument (`<argument>_URL`, `<argument>_SHA256`) of the image that takes it. `path` is the
    builder's own copy of it."""

    name: str
    image: str
    argument: str
    note: str
    url: str = ""
    sha256: str = ""
    path: Path | None = None

    @property
    def imagenet_width(self) -> str | None:
        """The width of the ImageNet weights that this file is; None where it is something else."""
        found = re.fullmatch(_WEIGHTS_NAME, self.path.name if self.path else self.url.rpartition("/")[2])
        return (found[1] or found[2]) if found and self.name == WEIGHTS else None


@dataclass(frozen=True)
class ExternalLock:
    files: dict[str, ExternalFile]

    def require(self, wanted: str) -> ExternalFile:
        """The file that `NAME` or `NAME=FILE` names, with its digest. Raises LockError where it cannot be had: an
        address or a digest is never guessed."""
        name, given, path = wanted.partition("=")
        file = self.files.get(name)
        if file is None:
            raise LockError(f"images/external.lock has no {name!r}; it has {', '.join(self.files)}")
        if given:
            return _with_path(file, Path(path))
        if not (file.url.startswith("https://") and re.fullmatch(r"[0-9a-f]{64}", file.sha256)):
            where = f" ({file.url})" if file.url else ""
            raise LockError(
                f"images/external.lock, {name}: an https url and a sha256 are needed to fetch it, and nobody publishes "
                f"both; get the file{where} from a source you trust and give it as {name}=FILE, or write both there "
                f"({file.note})"
            )
        return file


def _with_path(file: ExternalFile, path: Path) -> ExternalFile:
    if not path.is_file():
        raise LockError(f"{file.name}={path}: there is no such file")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if file.sha256 not in ("", digest):
        raise LockError(f"{path} has the sha256 {digest}; images/external.lock, {file.name}, has {file.sha256}")
    found = replace(file, url=f"{IMAGE_FOLDER}{path.name}", sha256=digest, path=path)
    if file.name == WEIGHTS and found.imagenet_width is None:
        raise LockError(
            f"{file.name}={path}: a training looks for names such as mobilenet_v2_1.0_224_no_top.weights.h5; call the "
            "file as `atoll weights` calls it"
        )
    return found


@contextmanager
def given_files(files: Sequence[ExternalFile], context: Path) -> Iterator[None]:
    """Has the builder's own files in the context of the builds, and removes them afterwards."""
    copies = [(file.path, context / CONTEXT_FOLDER / file.path.name) for file in files if file.path is not None]
    try:
        for path, copy in copies:
            shutil.copyfile(path, copy)
        yield
    finally:
        for _, copy in copies:
            copy.unlink(missing_ok=True)


def read_lock(path: Path) -> ExternalLock:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return ExternalLock({name: ExternalFile(name=name, **entry) for name, entry in document.items()})
