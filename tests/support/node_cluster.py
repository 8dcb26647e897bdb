"""kubectl and Helm against the one-node cluster, from outside its network namespace."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.binaries import ensure
from cluster.node import Keeper
from cluster.node_host import inside

CALL_DEADLINE_SECONDS = 60.0


class CommandError(AssertionError):
    """A command failed; the message has its output."""


SHOWN_USERS = 5


def in_use(users: Sequence[str]) -> str:
    """Why tests leave a cluster alone that has these in it; empty: nobody uses it."""
    if not users:
        return ""
    more = f" and {len(users) - SHOWN_USERS} more" if len(users) > SHOWN_USERS else ""
    return (
        f"this cluster is in use: it has {', '.join(users[:SHOWN_USERS])}{more}. The tests would delete Atoll's kinds"
        " with every run in it. Take another cluster (make e2e NAME=tests), or end this one first (make cluster-down)"
    )


@dataclass(frozen=True)
class NodeCluster:
    """A running cluster. Commands run in its network namespace, with its admin's kubeconfig."""

    keeper: Keeper

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = CALL_DEADLINE_SECONDS) -> str:
        return self.call([str(ensure("kubectl")), *arguments], stdin=stdin, timeout=timeout)

    def helm(self, *arguments: str, program: str = "helm4", timeout: float = 300.0) -> str:
        return self.call([str(ensure(program)), *arguments], timeout=timeout)

    def get(self, kind: str, name: str, *, namespace: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        return document

    def names(self, kind: str, fields: str) -> list[str]:
        """Of the objects without a namespace that these fields choose; none is no error."""
        return self.kubectl("get", kind, "--field-selector", fields, "-o", "name").split()

    def users(self) -> list[str]:
        """What of Atoll is in the cluster, but for its kinds: `kind namespace/name` of its operators and objects."""
        known = self.kubectl("get", "crd", "-o", "name").split()
        kinds = [name.rpartition("/")[2] for name in known if name.endswith(".atoll.dev")]
        operators = ["-l", "app.kubernetes.io/part-of=atoll"]
        found = []
        for kind, labels in [("deployments.apps", operators), *((kind, []) for kind in kinds)]:
            text = self.kubectl("get", kind, "-A", *labels, "-o", "json")
            for item in json.loads(text)["items"]:
                namespace = item["metadata"].get("namespace")
                found.append(f"{kind} {f'{namespace}/' if namespace else ''}{item['metadata']['name']}")
        return found

    @contextmanager
    def restricted_namespace(self, prefix: str) -> Iterator[str]:
        """A namespace that admits no pod but restricted ones; gone afterwards."""
        name = f"{prefix}-{secrets.token_hex(3)}"
        self.kubectl("create", "namespace", name)
        self.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--ignore-not-found", timeout=180)

    def call(self, command: Sequence[str], *, stdin: str | None = None, timeout: float = CALL_DEADLINE_SECONDS) -> str:
        """Standard output and error of a command that has to succeed."""
        try:
            done = subprocess.run(
                inside(command),
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=timeout,
                env=os.environ | {"KUBECONFIG": self.keeper.kubeconfig},
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{' '.join(command)} took longer than {timeout:g} s:\n{error.output}") from error
        if done.returncode != 0:
            raise CommandError(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stdout}")
        return done.stdout
