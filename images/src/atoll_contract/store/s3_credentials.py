"""Credentials of a store: files of a mounted Secret, or whatever botocore finds, and what to do where they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_contract.errors import Reason, bounded
from atoll_contract.store.base import StoreError, StoreForbidden, StoreUnavailable
from atoll_contract.store.retry import Retryable

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials


ACCESS_KEY = "AWS_ACCESS_KEY_ID"
SECRET_KEY = "AWS_SECRET_ACCESS_KEY"
SESSION_TOKEN = "AWS_SESSION_TOKEN"
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
# Calls to other services, with which botocore gets credentials.
CREDENTIAL_CALLS = frozenset(
    {"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "GetSessionToken", "GetRoleCredentials"}
    | {"CreateToken", "CreateOAuth2Token"}
)

_MAX_KEY_FILE = 16_384
# How botocore names its ways to credentials, and what a user calls them.
_METHODS = {
    "assume-role-with-web-identity": "AssumeRoleWithWebIdentity",
    "assume-role": "AssumeRole",
    "sso": "SSO",
    "login": "aws login",
    "custom-process": "credential_process",
}
_UNREACHABLE = frozenset(
    {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "SSLError"}
    | {"ProxyConnectionError", "HTTPClientError", "ConnectionError"}
)
_LOGGED_OUT = frozenset(
    {"SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError", "NoAuthTokenError", "SSOError"}
    | {"UnauthorizedException"}
)
# Kubernetes replaces this link when a mounted Secret changes; the files behind it belong together.
_MOUNTED = "..data"


class FileCredentials:
    """Credentials in files of a folder, read for every request, so that a rotated Secret is used at once. For botocore
    this is both the only credential provider and the credentials."""

    method = "atoll-files"
    account_id = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_credentials(self) -> FileCredentials:
        return self

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
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
            data = path.read_bytes()
        except OSError as error:
            raise StoreForbidden(f"cannot read the credential file {path}: {error.strerror}") from error
        if not data.strip():
            raise StoreForbidden(f"the credential file {path} is empty")
        try:
            # Windows' editors put a byte order mark first.
            text = data.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            text = ""
        # A key goes into a header.
        if not text.isascii() or not text.isprintable() or not 0 < len(text) <= _MAX_KEY_FILE:
            raise StoreForbidden(f"the credential file {path} holds no key in one line of ASCII text; save it as UTF-8")
        return text


class CredentialChain:
    """The credentials of a botocore session, whichever way it gets them."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._seen: frozenset[str] = frozenset()

    def find(self) -> None:
        """Finds the way to credentials, and starts the program of a `credential_process`.

        Raises:
            StoreError: a profile has a mistake, or its program fails.
        """
        try:
            self._session.get_credentials()
        except StoreError:
            raise
        # botocore raises what it likes here: its own errors, OSError for a token file, KeyError for an odd answer.
        except Exception as error:  # noqa: BLE001
            if type(error).__name__ == "ProfileNotFound":
                raise _profile_missing(error, self._session.available_profiles) from None
            found = credential_error(error, store="the store", profile=self._profile())
            raise (found.error if isinstance(found, Retryable) else found) from None

    def check(self, store: str) -> None:
        """Gets the credentials, as the next request will: botocore keeps them until they have to be renewed.

        Raises:
            StoreError: there are none, or they cannot be had; or a Retryable around one.
        """
        method = ""
        try:
            found = self._session.get_credentials()
            method = str(getattr(found, "method", ""))
            frozen = found.get_frozen_credentials() if found is not None else None
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # as above
            raise credential_error(error, store=store, method=method, profile=self._profile()) from None
        values = (frozen.access_key, frozen.secret_key, frozen.token) if frozen else ()
        self._seen = frozenset(value for value in values if value)

    def _profile(self) -> str:
        return str(self._session.profile or "default")

    def seen(self) -> frozenset[str]:
        """The credentials as last checked, which no message may contain."""
        return self._seen


def credential_error(error: Exception, *, store: str, method: str = "", profile: str = "") -> Exception:
    """Returns the error to raise where credentials could not be had: a StoreError, or a Retryable around one."""
    kind = type(error).__name__
    code, status = _answer(error)
    operation = str(getattr(error, "operation_name", ""))
    way = operation or _METHODS.get(method, method) or "botocore"
    text = f"{store}: cannot get credentials by {way}: {bounded(_one_line(error))}"
    if code in EXPIRED:
        hint = "the identity token has expired; renew it, it is read again for every try"
        return Retryable(StoreError(Reason.CREDENTIALS_EXPIRED, f"{text}; {hint}"), tries=3)
    if (
        kind in _UNREACHABLE
        or status >= 500
        or code in ("Throttling", "TooManyRequestsException", "IDPCommunicationError")
    ):
        return Retryable(StoreUnavailable(f"{text}; the service that gives credentials does not answer"))
    return StoreForbidden(f"{text}; {_hint(error, kind, code, profile)}")


def _hint(error: Exception, kind: str, code: str, profile: str) -> str:
    if kind in _LOGGED_OUT or code in _LOGGED_OUT:
        return f"log in with: aws sso login --profile {profile}"
    if kind.startswith("Login"):
        return f"log in with: aws login --profile {profile}"
    if isinstance(error, OSError):
        return "the environment or the profile names this file of an identity token, and it cannot be read"
    if code in ("AccessDenied", "InvalidIdentityToken", "AccessDeniedException"):
        return "the role's trust policy has to name this identity (service account and issuer)"
    if kind == "CredentialRetrievalError":
        return f"look at the profile {profile} of ~/.aws/config and at the program that it calls"
    return "correct them, or give the store others"


def _answer(error: Exception) -> tuple[str, int]:
    """Code and HTTP status of the answer, where a service answered."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return "", 0
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(response.get("Error", {}).get("Code", "")), int(status)


def credentials_on_this_machine() -> bool:
    """Returns whether botocore finds credentials, which may still be refused or have to be renewed.

    Raises:
        StoreError: AWS_PROFILE or ~/.aws has a mistake, or a profile's program fails.
    """
    import botocore.session

    session = botocore.session.Session()
    CredentialChain(session).find()
    return session.get_credentials() is not None


def _profile_missing(error: Exception, known: Iterable[str]) -> StoreForbidden:
    names = ", ".join(sorted(known)) or "none"
    text = f"{_one_line(error)}; AWS_PROFILE names it, and ~/.aws has {names}; correct or unset AWS_PROFILE"
    return StoreForbidden(bounded(text))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
