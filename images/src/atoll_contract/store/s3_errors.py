"""Translates the errors of boto3 into those of the store, with a reason, a hint and without secrets."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from atoll_contract.errors import Reason, SpecError, bounded
from atoll_contract.store.base import ObjectNotFound, PreconditionFailed, StoreError, StoreForbidden, StoreUnavailable
from atoll_contract.store.retry import Retryable

THROTTLED = frozenset(
    {"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "ThrottledException"}
    | {
        "RequestThrottled",
        "RequestLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
    }
)
FORBIDDEN = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AllAccessDisabled", "AccountProblem"}
)
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
MISSING = frozenset({"NoSuchKey", "NotFound", "404"})
NO_BUCKET = frozenset({"NoSuchBucket", "InvalidBucketName"})
WRONG_REGION = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "301",
    }
)
CORRUPTED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest"})
BUSY = frozenset({"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "IncompleteBody"})
FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "EntityTooLarge"})
CREDENTIAL_ERRORS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}
    | {"UnauthorizedSSOTokenError", "SSOTokenLoadError", "NoAuthTokenError", "ProfileNotFound"}
)
CHECKSUM_HINT = "set the store's checksumMode to whenRequired"

_SIGNED = re.compile(r"(?i)\b(Signature|Credential|X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token)=[^\s,&;\"']+")


@dataclass(frozen=True)
class Attempted:
    """The operation that failed: a verb such as `write`, the key, and the name of the store in messages."""

    action: str
    key: str
    store: str
    virtual_host: bool = False

    def text(self, detail: str) -> str:
        what = f"{self.action} {self.key!r}" if self.key else self.action
        return f"{self.store}: cannot {what}: {detail}"


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text` without the secrets and without signatures."""
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
    return bounded(_SIGNED.sub(r"\1=[redacted]", text))


def translated(error: Exception, attempted: Attempted, secrets: Iterable[str]) -> Exception:
    """Returns the error to raise for `error`: a StoreError or SpecError, or a Retryable around one."""
    from botocore.exceptions import ClientError, ParamValidationError

    if isinstance(error, ClientError):
        answer = _Answer.of(error, secrets)
        return _of_answer(answer, attempted)
    detail = redacted(str(getattr(error, "kwargs", {}).get("error", "")) or str(error), secrets)
    if isinstance(error, ParamValidationError):
        return SpecError(attempted.text(detail))
    return _of_transport(type(error).__name__, detail, attempted)


@dataclass(frozen=True)
class _Answer:
    status: int
    code: str
    message: str
    region: str | None

    @classmethod
    def of(cls, error: Any, secrets: Iterable[str]) -> "_Answer":
        body = error.response.get("Error", {})
        meta = error.response.get("ResponseMetadata", {})
        headers = meta.get("HTTPHeaders", {})
        return cls(
            int(meta.get("HTTPStatusCode", 0)),
            str(body.get("Code", "")),
            redacted(str(body.get("Message", "")), secrets),
            headers.get("x-amz-bucket-region") or body.get("Region"),
        )

    @property
    def text(self) -> str:
        head = f"{self.status} {self.code}" if self.code and self.code != str(self.status) else f"HTTP {self.status}"
        return f"{head}: {self.message}" if self.message else head


def _of_answer(answer: _Answer, attempted: Attempted) -> Exception:
    text = attempted.text(answer.text)
    if answer.code in NO_BUCKET or answer.code in WRONG_REGION:
        hint = f"; its region is {answer.region}" if answer.region else "; check bucket, endpoint and region"
        return StoreError(Reason.BUCKET_NOT_FOUND, text + hint)
    if answer.code in MISSING or (answer.status == 404 and answer.code != "NoSuchUpload"):
        return ObjectNotFound(f"{attempted.store}: there is no object {attempted.key!r}")
    if answer.status == 412 or answer.code == "PreconditionFailed":
        return PreconditionFailed(attempted.text("another object is there than expected"))
    if answer.code in CORRUPTED:
        hint = f"; the bytes changed on their way; where this happens always, {CHECKSUM_HINT}"
        return Retryable(StoreError(Reason.INTEGRITY_MISMATCH, text + hint), tries=3)
    if answer.code in FULL or answer.status == 507:
        return StoreUnavailable(f"{text}; the storage is full")
    if answer.code in EXPIRED:
        hint = "; renew the credentials, they are read again for every request"
        return Retryable(StoreError(Reason.CREDENTIALS_EXPIRED, text + hint), tries=3)
    return _of_status(answer, text)


def _of_status(answer: _Answer, text: str) -> Exception:
    if answer.code in THROTTLED or answer.status == 429:
        return Retryable(StoreUnavailable(text, Reason.STORAGE_THROTTLED))
    if answer.status in (401, 403) or answer.code in FORBIDDEN:
        return Retryable(StoreForbidden(f"{text}; {_forbidden_hint(answer.code)}"), tries=2)
    if answer.status == 501 or "checksum" in answer.message.lower() or "x-amz-sdk" in answer.message.lower():
        return StoreError(Reason.STORE_UNSUITABLE, f"{text}; the server does not know what was asked; {CHECKSUM_HINT}")
    if answer.code in BUSY or answer.status >= 500 or answer.status in (0, 408, 409):
        return Retryable(StoreUnavailable(text))
    return Retryable(StoreUnavailable(text), tries=3)


def _forbidden_hint(code: str) -> str:
    if code == "RequestTimeTooSkewed":
        return "the clock of this machine is wrong"
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return "check the store's credentials"
    return "the store's credentials do not allow this"


def _of_transport(kind: str, detail: str, attempted: Attempted) -> Exception:
    if kind in CREDENTIAL_ERRORS:
        return StoreForbidden(attempted.text(f"{detail}; give the store credentials, or make it anonymous"))
    if kind == "SSLError":
        hint = "check the certificate, or give the store a CA bundle (caBundleRef)"
        return Retryable(StoreUnavailable(attempted.text(f"TLS: {detail}; {hint}")), tries=3)
    if kind == "FlexibleChecksumError":
        return Retryable(StoreError(Reason.INTEGRITY_MISMATCH, attempted.text(detail)), tries=3)
    if "resolve" in detail.lower() and attempted.virtual_host:
        hint = "the bucket is part of the host's name with addressingStyle virtual; try path"
        return Retryable(StoreError(Reason.BUCKET_NOT_FOUND, attempted.text(f"{detail}; {hint}")), tries=3)
    return Retryable(StoreUnavailable(attempted.text(f"{kind}: {detail}")))
