"""Plain HTTP requests to an API server, for tests of the bytes that it is sent."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from cluster.controlplane import ControlPlane

JSON = "application/json"
YAML = "application/yaml"
MERGE_PATCH = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        """What the server says of a refusal."""
        return str(self.body.get("message", ""))


class KubeHttp:
    """An admin's requests to `plane`. Unless `strict` is false unknown fields are errors, as `kubectl` asks for."""

    def __init__(self, plane: ControlPlane) -> None:
        self._server = plane.server
        self._token = plane.token
        self._context = ssl.create_default_context(cafile=str(plane.ca_file))

    def send(
        self, method: str, path: str, body: bytes, *, kind: str = JSON, dry_run: bool = False, strict: bool = True
    ) -> Answer:
        query = f"fieldManager=test&fieldValidation={'Strict' if strict else 'Ignore'}"
        query += "&dryRun=All" if dry_run else ""
        headers = {"Content-Type": kind}
        return self._answer(urllib.request.Request(f"{self._server}{path}?{query}", body, headers, method=method))

    def send_json(self, method: str, path: str, document: Any, *, dry_run: bool = False, strict: bool = True) -> Answer:
        return self.send(method, path, json.dumps(document).encode(), dry_run=dry_run, strict=strict)

    def table(self, path: str) -> Answer:
        """The object or objects at `path` as the columns and rows that `kubectl get` prints."""
        headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        return self._answer(urllib.request.Request(f"{self._server}{path}", headers=headers))

    def _answer(self, request: urllib.request.Request) -> Answer:
        request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=20, context=self._context) as answer:
                return Answer(int(answer.status), json.loads(answer.read()))
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, json.loads(refusal.read()))


def collection(kind: str, namespace: str) -> str:
    """Path of the objects of one of Atoll's kinds."""
    group = "/apis/atoll.dev/v1alpha1"
    plural = f"{kind.lower()}s"
    return f"{group}/{plural}" if kind == "TrainingProfile" else f"{group}/namespaces/{namespace}/{plural}"
