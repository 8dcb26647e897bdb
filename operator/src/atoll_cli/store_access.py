"""Opens the store of a command: the folder of the local engine, or the bucket behind an ObjectStore of the cluster.

A bucket is used with the user's own credentials (the AWS tools' chain): the Secret that the ObjectStore names is for
the stages, and the command line never reads it. A store that only the cluster reaches is reached through a
port-forward, which lasts as long as the command.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from atoll_cli.cluster_access import ClusterAccess, connect_engine
from atoll_cli.console import transfer_progress
from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.local.state import RunFolder, known_runs
from atoll_cli.options import EngineOptions
from atoll_contract.document import replace
from atoll_contract.errors import Reason, SpecError, exit_code
from atoll_contract.store import directory_store, open_store
from atoll_contract.store.base import Store, StoreError, StoreForbidden, StoreUnavailable
from atoll_contract.store.retry import Backoff
from atoll_contract.store.s3 import S3Store
from atoll_contract.store.s3_credentials import credentials_on_this_machine
from atoll_contract.store_spec import AddressingStyle, StoreSpec
from atoll_operator.api.decode import object_store
from atoll_operator.api.manifests import read_files
from atoll_operator.jobs.stage_input import store_spec
from atoll_operator.kube.objects import STORES

# A user waits at the screen; a stage retries for longer.
RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class StoreAccess:
    """A store, and the namespace that the command acts in. One of `folder` (of the local engine) and `cluster` is
    set."""

    store: Store
    namespace: str
    folder: Path | None = None
    cluster: ClusterAccess | None = None


def open_engine_store(engine: EngineOptions, *, writing: bool = False) -> StoreAccess:
    """The store of the engine that the options select.

    Raises:
        SpecError, NoCredentials, ClusterError: as `bucket_of` and `EngineOptions.local_folder` do.
    """
    folder = engine.local_folder(by_namespace=True)
    if folder is not None:
        return StoreAccess(open_local_store(folder), engine.cluster.namespace or DEFAULT_NAMESPACE, folder=folder)
    access = connect_engine(engine)
    bucket = bucket_of(access, engine.object_store, endpoint=engine.endpoint, writing=writing)
    return StoreAccess(bucket, access.namespace, cluster=access)


def open_local_store(folder: Path, manifests: Sequence[Path] = ()) -> Store:
    """The store of the one ObjectStore in the files `manifests`, or the folder store `folder` where none is given."""
    if not manifests:
        return open_store(directory_store(folder.resolve()))
    files = read_files(manifests)
    if files.problems:
        raise SpecError("; ".join(str(problem) for problem in files.problems))
    found = [item for item in files.manifests if item.is_atoll and item.kind == "ObjectStore"]
    if len(found) != 1:
        raise SpecError(f"the files hold {len(found)} ObjectStores; give exactly one")
    return open_store(store_spec(object_store(found[0].value)))


def local_run(folder: Path, name: str) -> RunFolder:
    """The state of a run of the local engine.

    Raises:
        SpecError: there is none of this name.
    """
    runs = known_runs(folder.resolve())
    found = next((run for run in runs if run.name == name), None)
    if found is None:
        known = ", ".join(run.name for run in runs) or "none"
        raise SpecError(f"there is no run {name} in {folder.resolve()}; known there: {known}")
    return found


def bucket_of(access: ClusterAccess, name: str, *, endpoint: str | None = None, writing: bool = False) -> Store:
    """The bucket of the ObjectStore `name`. No request is made to it yet.

    Raises:
        SpecError: there is no such ObjectStore, or no pod behind its address.
        NoCredentials: there are none on this machine.
        ClusterError: the API server does not answer, or does not allow it.
    """
    found = access.cluster.read(STORES, access.namespace, name)
    if found is None:
        raise SpecError(f"there is no ObjectStore {name} in namespace {access.namespace}")
    # The annotation that replaces the bucket by a folder is for the local engine.
    spec = store_spec(replace(object_store(found), directory=None))
    spec = replace(spec, endpoint=endpoint or spec.endpoint, anonymous=spec.anonymous and not writing)
    if not spec.anonymous:
        _require_credentials(found)
    if endpoint is None:
        spec = _forwarded(access, spec)
    return S3Store(spec, backoff=Backoff(total=RETRY_SECONDS, on_failure=_FirstFailure()))


class _FirstFailure:
    """Tells the user of the first failed try, so that nobody waits without a word for the last one."""

    def __init__(self) -> None:
        self._is_reported = False

    def __call__(self, error: StoreError) -> None:
        if not self._is_reported:
            self._is_reported = True
            click.echo(f"warning: {error.message}; trying again for up to {RETRY_SECONDS:.0f} s", err=True)


class NoCredentials(click.ClickException):
    """Shows how to get credentials in several lines for the shell; the message of an AtollError has one line."""

    exit_code = int(exit_code(Reason.STORAGE_FORBIDDEN))


def _require_credentials(store: dict[str, Any]) -> None:
    # The client itself would fail only at its first request, without saying where credentials come from.
    if credentials_on_this_machine():
        return
    text = "there are no S3 credentials on this machine (AWS_ACCESS_KEY_ID …, AWS_PROFILE, ~/.aws)"
    secret = (store["spec"]["credentials"].get("secretRef") or {}).get("name")
    if secret:
        metadata = store["metadata"]
        get = f"kubectl get secret -n {metadata['namespace']} {secret} -o jsonpath="
        lines = [
            f"  export {name}=\"$({get}'{{.data.{name}}}' | base64 -d)\""
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        ]
        text = "\n".join([f"{text}; those of ObjectStore {metadata['name']}, if you may read its Secret:", *lines])
    raise NoCredentials(text)


def _forwarded(access: ClusterAccess, spec: StoreSpec) -> StoreSpec:
    """The store behind a port-forward if its address is a Service's and this process is not in a pod. The click context
    of the command ends the port-forward."""
    from atoll_cli.port_forward import PortForward, service_of

    service = service_of(spec.endpoint)
    if service is None or "KUBERNETES_SERVICE_HOST" in os.environ:
        return spec
    forward = click.get_current_context().with_resource(PortForward(access.cluster, service))
    # The bucket cannot be a part of the host's name here. Requests are signed for the name that they are sent to.
    return replace(spec, endpoint=forward.endpoint, addressing_style=AddressingStyle.PATH)


@contextmanager
def explain_store_errors(*, endpoint: str | None) -> Iterator[None]:
    """Adds to the store's errors the advice that applies to a user's machine."""
    try:
        yield
    except (StoreForbidden, StoreUnavailable) as error:
        if isinstance(error.__cause__, OSError):
            # The store is a folder, which has neither credentials nor an address.
            raise
        if isinstance(error, StoreForbidden):
            advice = "your own credentials are used (AWS_ACCESS_KEY_ID …, AWS_PROFILE, ~/.aws), not the ObjectStore's"
        elif endpoint is None:
            advice = "if this machine reaches the store elsewhere, name that with --endpoint"
        else:
            raise
        raise StoreError(error.reason, f"{error.message}; {advice}") from None


def fetch(store: Store, key: str, path: Path, *, sha256: str, size: int) -> Path:
    """Download an object to `path`, show the progress and check the bytes; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with transfer_progress(path.name, size) as transferred:
        store.download(key, path, sha256=sha256, transferred=transferred)
    return path
