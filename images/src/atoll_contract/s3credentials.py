"""Credentials as files in a folder, read anew for every request: a rotated Secret is used at once."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_contract.store import StoreForbidden

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

ACCESS_KEY = "AWS_ACCESS_KEY_ID"
SECRET_KEY = "AWS_SECRET_ACCESS_KEY"
SESSION_TOKEN = "AWS_SESSION_TOKEN"

# Kubernetes swaps this link when a mounted Secret changes; behind it the files belong together.
_MOUNTED = "..data"


class FileCredentials:
    """What botocore asks for credentials before it signs a request."""

    method = "atoll-files"
    account_id = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_frozen_credentials(self) -> "ReadOnlyCredentials":
        from botocore.credentials import ReadOnlyCredentials

        mounted = self._folder / _MOUNTED
        folder = mounted.resolve() if mounted.exists() else self._folder
        token = folder / SESSION_TOKEN
        return ReadOnlyCredentials(
            self._read(folder / ACCESS_KEY),
            self._read(folder / SECRET_KEY),
            self._read(token) if token.exists() else None,
        )

    @property
    def access_key(self) -> str | None:
        return self.get_frozen_credentials().access_key

    @property
    def secret_key(self) -> str | None:
        return self.get_frozen_credentials().secret_key

    @property
    def token(self) -> str | None:
        return self.get_frozen_credentials().token

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        return lambda: getattr(self, name)

    def _read(self, path: Path) -> str:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise StoreForbidden(f"cannot read the credential file {path}: {error.strerror}") from error
        if not text:
            raise StoreForbidden(f"the credential file {path} is empty")
        return text


class FileCredentialsProvider:
    """Gives a botocore session the credentials of a folder and of nowhere else."""

    def __init__(self, folder: Path) -> None:
        self._credentials = FileCredentials(folder)

    def load_credentials(self) -> FileCredentials:
        return self._credentials


def secret_values(credentials: Callable[[], Any]) -> frozenset[str]:
    """The texts that no message may hold: those of the credentials in use, where there are any."""
    try:
        found = credentials()
        frozen = found.get_frozen_credentials() if found is not None else None
    except StoreForbidden:
        return frozenset()
    values = (frozen.access_key, frozen.secret_key, frozen.token) if frozen else ()
    return frozenset(value for value in values if value)
