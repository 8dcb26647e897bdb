"""Translates the errors of boto3 into those of the store, with a reason, a hint and without secrets."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from atoll_contract.errors import Reason, SpecError, bounded
from atoll_contract.store.base import ObjectNotFound, PreconditionFailed, StoreError, StoreForbidden, StoreUnavailable
from atoll_contract.store.retry import Retryable
from atoll_contract.store.s3_credentials import CREDENTIAL_CALLS, EXPIRED, credential_error

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
# An access key that the server does not know; versitygw says so with the second one, and HTTP 404.
UNKNOWN_KEY = frozenset({"InvalidAccessKeyId", "XAdminUserNotFound"})
FORBIDDEN = UNKNOWN_KEY | {"AccessDenied", "SignatureDoesNotMatch", "AllAccessDisabled", "AccountProblem"}
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
NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError"})
CORRUPTED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest"})
BUSY = frozenset({"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "IncompleteBody"})
FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "EntityTooLarge"})
# What an answer of S3 has and that of a proxy or a web page has not.
REQUEST_IDS = ("x-amz-request-id", "x-amz-id-2", "x-request-id")
CHECKSUM_HINT = "set the store's checksumMode to whenRequired"

_SIGNED = re.compile(r"(?i)\b(Signature|Credential|X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token)=[^\s,&;\"']+")


@dataclass(frozen=True)
class Attempted:
    """The operation that failed: a verb such as `write`, the key, and the name of the store in messages."""

    action: str
    key: str
    store: str
    virtual_host: bool = False
    # The variable and address of the proxy that requests go through; empty where there is none.
    proxy: str = ""

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
        if error.operation_name in CREDENTIAL_CALLS:
            return credential_error(error, store=attempted.store)
        return _of_answer(_Answer.of(error, secrets), attempted)
    detail = redacted(str(getattr(error, "kwargs", {}).get("error", "")) or str(error), secrets)
    if isinstance(error, ParamValidationError):
        return SpecError(attempted.text(detail))
    return _of_transport(type(error).__name__, detail, attempted)


def proxy_of(endpoint: str) -> str:
    """Returns `HTTP_PROXY=host:port` of the proxy that the environment sets for an address, without its password."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(endpoint)
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or not parts.hostname or proxy_bypass(parts.netloc):
        return ""
    return f"{parts.scheme.upper()}_PROXY={proxy.rpartition('@')[2].rpartition('//')[2]}"


@dataclass(frozen=True)
class _Answer:
    status: int
    code: str
    message: str
    region: str | None
    # Whether the answer has the marks of an S3 server.
    of_s3: bool = True

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
            any(name in headers for name in REQUEST_IDS) or not str(body.get("Code", "")).isdecimal(),
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
    if answer.code in MISSING or (answer.status == 404 and not answer.code):
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
    return _of_status(answer, attempted, text)


def _of_status(answer: _Answer, attempted: Attempted, text: str) -> Exception:
    if answer.code in THROTTLED or answer.status == 429:
        return Retryable(StoreUnavailable(text, Reason.STORAGE_THROTTLED))
    # A 404 with another code than those of a missing object or upload is about who asks, not about what is asked for.
    unknown = answer.status == 404 and answer.code != "NoSuchUpload"
    if answer.status in (401, 403, 407) or answer.code in FORBIDDEN or unknown:
        return Retryable(StoreForbidden(f"{text}; {_forbidden_hint(answer, attempted)}"), tries=2)
    if wrong_server := _wrong_server(answer.message):
        return StoreError(Reason.STORE_UNSUITABLE, f"{text}; {wrong_server}")
    if answer.status == 501 or "checksum" in answer.message.lower() or "x-amz-sdk" in answer.message.lower():
        return StoreError(Reason.STORE_UNSUITABLE, f"{text}; the server does not know what was asked; {CHECKSUM_HINT}")
    if answer.code in BUSY or answer.status >= 500 or answer.status in (0, 408, 409):
        return Retryable(StoreUnavailable(text + _proxy_hint(answer, attempted)))
    return Retryable(StoreUnavailable(text), tries=3)


def _wrong_server(message: str) -> str:
    """What to correct in the endpoint, where the answer says that it is no address of the S3 API."""
    lowered = message.lower()
    if "api port" in lowered:
        return "the endpoint has the port of the server's web console; write that of its S3 API (MinIO: 9000)"
    if "http request to an https server" in lowered or "plain http request was sent to https port" in lowered:
        return "the server speaks https: write https:// in the endpoint"
    return ""


def _proxy_hint(answer: _Answer, attempted: Attempted) -> str:
    if answer.of_s3 or not attempted.proxy:
        return ""
    return f"; this may be the answer of the proxy ({attempted.proxy}); name the store's host in NO_PROXY"


def _forbidden_hint(answer: _Answer, attempted: Attempted) -> str:
    if answer.status == 407:
        return f"the proxy ({attempted.proxy or 'HTTP_PROXY'}) wants a password, or name the store's host in NO_PROXY"
    if hint := _proxy_hint(answer, attempted):
        return hint.removeprefix("; ")
    if answer.code == "RequestTimeTooSkewed":
        return "the clock of this machine is wrong"
    if answer.code in UNKNOWN_KEY:
        return "the server knows no such access key; check AWS_ACCESS_KEY_ID of the store's credentials"
    if answer.code == "SignatureDoesNotMatch":
        return "the secret key does not belong to the access key; check the store's credentials"
    if answer.status == 404:
        return "this is no answer about a missing object; check the store's credentials and endpoint"
    if attempted.action == "read" and attempted.key:
        return (
            "the store's credentials do not allow this, or there is no such object: S3 answers so "
            "to credentials without the right to list the bucket (s3:ListBucket)"
        )
    return "the store's credentials do not allow this"


def _of_transport(kind: str, detail: str, attempted: Attempted) -> Exception:
    if kind in NO_CREDENTIALS:
        return StoreForbidden(attempted.text(f"{detail}; give the store credentials, or make it anonymous"))
    if kind == "ResponseParserError":
        hint = "the answer is none of S3 (a web page?); check the endpoint's host and port"
        return StoreError(Reason.STORE_UNSUITABLE, attempted.text(f"{hint}{_proxy_tail(attempted)}"))
    if kind == "ProxyConnectionError":
        hint = f"correct the proxy ({attempted.proxy or 'HTTP_PROXY'}), or name the store's host in NO_PROXY"
        return Retryable(StoreUnavailable(attempted.text(f"{detail}; {hint}")))
    if kind == "SSLError":
        return Retryable(StoreUnavailable(attempted.text(f"TLS: {detail}; {_tls_hint(detail)}")), tries=3)
    if kind == "FlexibleChecksumError":
        return Retryable(StoreError(Reason.INTEGRITY_MISMATCH, attempted.text(detail)), tries=3)
    if "resolve" in detail.lower() and attempted.virtual_host:
        hint = "the bucket is part of the host's name with addressingStyle virtual; try path"
        return Retryable(StoreError(Reason.BUCKET_NOT_FOUND, attempted.text(f"{detail}; {hint}")), tries=3)
    return Retryable(StoreUnavailable(attempted.text(f"{kind}: {detail}{_proxy_tail(attempted)}")))


def _proxy_tail(attempted: Attempted) -> str:
    return f"; requests go through a proxy ({attempted.proxy})" if attempted.proxy else ""


def _tls_hint(detail: str) -> str:
    lowered = detail.lower()
    if "wrong version number" in lowered or "record layer failure" in lowered or "http request" in lowered:
        return "the server speaks plain http: write http:// in the endpoint"
    return "check the certificate, or give the store a CA bundle (caBundleRef)"
