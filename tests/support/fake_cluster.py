"""An API server in memory for unit tests: no process, no socket, no thread, and no time but the test's.

`FakeCluster` is the product's `Cluster` with the answers of this server, so that everything above HTTP is the real
code. It does what the operator depends on: UIDs and resourceVersions, names that are taken, stale patches, deletions
with a UID, selectors, owner references. A test changes objects as a user or a controller would, and injects faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import kubernetes.client
import msgspec

from atoll_contract.document import rfc3339
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import Unavailable
from atoll_operator.kube.objects import Resource
from atoll_operator.kube.transport import Body, Request

START = datetime(2027, 1, 9, 18, 0, tzinfo=UTC)
# Kind of a watch event, plural of the object's kind, the object.
Listener = Callable[[str, str, Body], None]
Key = tuple[str, str | None, str]
T = TypeVar("T")


@dataclass
class FakeClock:
    """The time of a test. `now` gives the cluster's time, a call the monotonic seconds."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds - 1000.0)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Fault:
    """What happens to the next `times` requests whose text begins with `call`. `status` 0: no answer comes;
    `carried_out`: the request takes effect all the same."""

    call: str
    status: int = 0
    message: str = "the test says so"
    carried_out: bool = False
    times: int = 1


@dataclass
class FakeServer:
    """The objects by plural, namespace and name."""

    clock: FakeClock = field(default_factory=FakeClock)
    objects: dict[Key, Body] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    # Every request in order, as errors name it: `create jobs team`. A GET of a collection is a `list`.
    calls: list[str] = field(default_factory=list)
    # Logs by pod.
    logs: dict[str, str] = field(default_factory=dict)
    # Admission: may change an object (the second argument, whose plural is the first) before it is created.
    admit: Callable[[str, Body], None] = lambda *_: None
    # Whether what an object owns is deleted together with it; otherwise a test does that later.
    collects_garbage: bool = True
    version: int = 100

    def fail(self, call: str, status: int = 0, **changes: Any) -> None:
        self.faults.append(Fault(call, status, **changes))

    def take_calls(self) -> list[str]:
        """Returns the calls since the last time, without the part that names the namespace and the object."""
        taken = [" ".join(call.split()[:2]) for call in self.calls]
        self.calls.clear()
        return taken

    # What users, controllers and kubelets do.

    def add(self, resource: Resource, body: Body, namespace: str | None = None) -> Body:
        """Creates the object as the API server would, and notifies the watches."""
        key = (resource.plural, namespace, body["metadata"]["name"])
        assert key not in self.objects, key
        made = _copy(body)
        made["metadata"] |= {
            "uid": made["metadata"].get("uid") or f"{resource.plural}-{self.version}",
            "creationTimestamp": rfc3339(self.clock.now()),
            "generation": 1,
        } | ({"namespace": namespace} if namespace else {})
        self.objects[key] = made
        self._changed("ADDED", key)
        return _copy(made)

    def get(self, resource: Resource, namespace: str | None, name: str) -> Body | None:
        return _copy(self.objects.get((resource.plural, namespace, name)))

    def all(self, resource: Resource) -> list[Body]:
        return [_copy(body) for key, body in self.objects.items() if key[0] == resource.plural]

    def edit(self, resource: Resource, namespace: str | None, name: str, patch: Body) -> Body:
        """Merge-patches the object."""
        key = (resource.plural, namespace, name)
        _merge(self.objects[key], patch)
        self._changed("MODIFIED", key)
        return _copy(self.objects[key])

    def remove(self, resource: Resource, namespace: str | None, name: str) -> None:
        """Deletes the object, and what it owns."""
        key = (resource.plural, namespace, name)
        gone = self.objects[key]
        self._changed("DELETED", key)
        del self.objects[key]
        if not self.collects_garbage:
            return
        for (plural, where, owned), body in list(self.objects.items()):
            owners = body["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                self.remove(Resource("", plural), where, owned)

    def _changed(self, kind: str, key: Key) -> None:
        self.version += 1
        body = self.objects[key]
        body["metadata"]["resourceVersion"] = str(self.version)
        for listener in self.listeners:
            listener(kind, key[0], _copy(body))

    # Requests.

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Returns status and body. Raises Unavailable where the test has the answer lost."""
        call = text_of(request)
        self.calls.append(call)
        fault = next((item for item in self.faults if call.startswith(item.call)), None)
        if fault is None:
            return _encoded(*self._serve(request))
        fault.times -= 1
        if fault.times == 0:
            self.faults.remove(fault)
        if fault.carried_out:
            self._serve(request)
        if fault.status == 0:
            raise Unavailable(str(request), f"no answer from the API server: {fault.message}")
        return _encoded(fault.status, {"kind": "Status", "reason": "Injected", "message": fault.message})

    def _serve(self, request: Request) -> tuple[int, Body | str]:
        plural, namespace, name = request.resource.plural, request.namespace, request.name
        if request.subresource == "log":
            return (200, self.logs[name]) if name in self.logs else (400, "the container waits to start")
        if request.method == "POST":
            return self._create(request)
        if name is None:
            return 200, self._page(request)
        body = self.objects.get((plural, namespace, name))
        if body is None:
            return _refusal(404, "NotFound", f"{plural} {name!r} not found")
        if request.method == "GET":
            return 200, body
        if request.method == "DELETE":
            return self._delete(request, body)
        return (self._replace_status if request.method == "PUT" else self._patch)(request, body)

    def _page(self, request: Request) -> Body:
        found, begin = list(self._selected(request)), int(request.query.get("continue", "0"))
        end = begin + int(request.query.get("limit", len(found)))
        metadata = {"resourceVersion": str(self.version)} | ({"continue": str(end)} if end < len(found) else {})
        return {"metadata": metadata, "items": found[begin:end]}

    def _create(self, request: Request) -> tuple[int, Body]:
        body = _copy(request.body or {})
        name = body["metadata"]["name"]
        if (request.resource.plural, request.namespace, name) in self.objects:
            return _refusal(409, "AlreadyExists", f"{request.resource.plural} {name!r} already exists")
        self.admit(request.resource.plural, body)
        return 201, self.add(request.resource, body, request.namespace)

    def _patch(self, request: Request, body: Body) -> tuple[int, Body]:
        patch = _copy(request.body or {})
        metadata = patch.pop("metadata", None) or {}
        version = metadata.get("resourceVersion")
        if metadata.get("annotations"):
            patch["metadata"] = {"annotations": metadata["annotations"]}
        if version not in (None, body["metadata"]["resourceVersion"]):
            return _refusal(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        return 200, self.edit(request.resource, request.namespace, str(request.name), patch)

    def _replace_status(self, request: Request, body: Body) -> tuple[int, Body]:
        assert request.subresource == "status", request
        given = _copy(request.body or {})
        if given["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            return _refusal(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        body["status"] = given["status"]
        changed = self.edit(request.resource, request.namespace, str(request.name), {})
        return 200, {"kind": "PartialObjectMetadata", "metadata": changed["metadata"]}

    def _delete(self, request: Request, body: Body) -> tuple[int, Body]:
        wanted = ((request.body or {}).get("preconditions") or {}).get("uid")
        if wanted not in (None, body["metadata"]["uid"]):
            return _refusal(409, "Conflict", "the UID in the precondition does not match")
        self.remove(request.resource, request.namespace, str(request.name))
        return 200, {"kind": "Status", "status": "Success"}

    def _selected(self, request: Request) -> Iterator[Body]:
        labels = [part.partition("=") for part in request.query.get("labelSelector", "").split(",") if part]
        fields = [part.partition("=") for part in request.query.get("fieldSelector", "").split(",") if part]
        for (plural, namespace, _), body in self.objects.items():
            if plural != request.resource.plural or request.namespace not in (None, namespace):
                continue
            own = body["metadata"].get("labels") or {}
            labelled = all(key in own and (not equals or own[key] == value) for key, equals, value in labels)
            if labelled and all(_field(body, path) == value for path, _, value in fields):
                yield body


class FakeCluster(Cluster):
    """Calls on a `FakeServer`. `fence` as in `Cluster`. `around` is called with each request while it is on its way
    to the server ("before") and while the answer is on its way back ("after")."""

    def __init__(
        self,
        server: FakeServer,
        *,
        fence: Callable[[], None] = lambda: None,
        around: Callable[[Request, str], None] = lambda *_: None,
    ) -> None:
        super().__init__(kubernetes.client.ApiClient(), fence=fence)
        self.server = server
        self._around = around

    def _answer(self, request: Request, *, last: int | None = None) -> tuple[int, bytes]:
        self._around(request, "before")
        status, data = self.server.answer(request)
        self._around(request, "after")
        return status, data if last is None else data[-last:]


def text_of(request: Request) -> str:
    text = str(request)
    return text if request.name or request.method != "GET" else f"list {text.partition(' ')[2]}"


def _merge(target: Body, patch: Body) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            inner = target.setdefault(key, {})
            if not isinstance(inner, dict):
                inner = target[key] = {}
            _merge(inner, value)
        else:
            target[key] = _copy(value)


def _field(body: Body, path: str) -> Any:
    if path == "status.successful":
        return str((body.get("status") or {}).get("succeeded", 0))
    value: Any = body
    for part in path.split("."):
        value = (value or {}).get(part)
    return value


def _refusal(status: int, reason: str, message: str) -> tuple[int, Body]:
    return status, {"kind": "Status", "reason": reason, "message": message}


def _encoded(status: int, body: Body | str) -> tuple[int, bytes]:
    return status, body.encode() if isinstance(body, str) else msgspec.json.encode(body)


def _copy(value: T) -> T:
    """`copy.deepcopy` takes ten times as long, and random histories copy most of their time."""
    copied: T = msgspec.json.decode(msgspec.json.encode(value))
    return copied
