"""What can go wrong between the operator and the API server.

ClusterError          carries the HTTP status (0: no answer) and the server's message
├── Unavailable       no answer, 429 or 5xx: the queue tries again
├── Forbidden         the operator's role lacks a right (401, 403)
├── Conflict          409: somebody else wrote the object meanwhile
│   └── AlreadyExists 409 on create
└── Refused           400, 422 and others that are not worth repeating: schema, admission policy
"""

from atoll_operator.kube.objects import json_object


class ClusterError(Exception):
    """A call that failed; `call` says which, such as `get jobs team/run-train-1`. `retry_after` is in seconds."""

    def __init__(self, call: str, message: str, *, status: int = 0, retry_after: float = 0.0) -> None:
        super().__init__(f"{call}: {message}")
        self.call = call
        self.message = message
        self.status = status
        self.retry_after = retry_after


class Unavailable(ClusterError):
    """The API server cannot answer at the moment."""


class Forbidden(ClusterError):
    """The account may not do this; it fails again until somebody changes a role."""


class Conflict(ClusterError):
    """Somebody else wrote the object first; it has to be read and decided on again."""


class AlreadyExists(Conflict):
    """An object of this name exists."""


class Refused(ClusterError):
    """The API server or an admission policy does not accept this object."""


def from_status(call: str, *, status: int, reason: str, message: str, retry_after: float = 0.0) -> ClusterError:
    """Returns the error for an answer of the API server; `reason` is the `reason` of its Status object."""
    if status == 409:
        kind: type[ClusterError] = AlreadyExists if reason == "AlreadyExists" else Conflict
    elif status in (401, 403):
        kind = _kind_of_403(message)
    elif status == 429 or status >= 500:
        kind = Unavailable
    else:
        kind = Refused
    return kind(call, message, status=status, retry_after=retry_after)


def from_answer(call: str, *, status: int, data: bytes) -> ClusterError:
    """Returns the error for the body of an answer: a Status object, or the text of a proxy."""
    body = json_object(data)
    return from_status(
        call,
        status=status,
        reason=str(body.get("reason", "")),
        message=str(body.get("message") or data[:200].decode(errors="replace") or f"HTTP {status}"),
        retry_after=float((body.get("details") or {}).get("retryAfterSeconds") or 0),
    )


def _kind_of_403(message: str) -> type[ClusterError]:
    """Quotas, namespaces in deletion, admission webhooks and missing rights all answer 403; only the texts differ."""
    if "exceeded quota" in message or "being terminated" in message:
        return Unavailable
    return Refused if " denied " in message or "violates" in message else Forbidden
