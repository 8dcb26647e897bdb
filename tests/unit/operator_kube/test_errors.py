"""Answers of the API server become errors by what can be done about them."""

from __future__ import annotations

import pytest

from atoll_operator.kube.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Forbidden,
    Refused,
    Unavailable,
    from_status,
)

RBAC = 'jobs.batch is forbidden: User "x" cannot create resource "jobs" in API group "batch" in the namespace "team"'
QUOTA = 'jobs.batch "note" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1, used: 5, limited: 5'
ENDING = 'jobs.batch "note" is forbidden: unable to create new content in namespace team because it is being terminated'
WEBHOOK = 'admission webhook "policy.example" denied the request: images must be signed'
POLICY = "jobs.batch \"note\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no jobs"


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind"),
    [
        (409, "AlreadyExists", "jobs.batch note already exists", AlreadyExists),
        (409, "Conflict", "the object has been modified", Conflict),
        (401, "Unauthorized", "Unauthorized", Forbidden),
        (403, "Forbidden", RBAC, Forbidden),
        (403, "Forbidden", QUOTA, Unavailable),
        (403, "Forbidden", ENDING, Unavailable),
        (403, "Forbidden", WEBHOOK, Refused),
        (403, "Forbidden", POLICY, Refused),
        (422, "Invalid", "spec.template: field is immutable", Refused),
        (400, "BadRequest", "strict decoding error", Refused),
        (429, "TooManyRequests", "storage is (re)initializing", Unavailable),
        (500, "InternalError", "etcdserver: leader changed", Unavailable),
        (504, "Timeout", "the request did not complete in time", Unavailable),
    ],
)
def test_an_answer_has_its_kind(status: int, reason: str, message: str, kind: type[ClusterError]) -> None:
    error = from_status("create jobs team/note", status=status, reason=reason, message=message)
    assert type(error) is kind
    assert str(error) == f"create jobs team/note: {message}"
