"""The bucket behind an ObjectStore of the cluster, with the user's own credentials (the AWS tools' chain).

The Secret that the ObjectStore names is for the stages; the command line never asks for it. A store that only the
cluster reaches is reached through a port-forward, which lasts as long as the command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from atoll_cli.console import Transfer
from atoll_cli.options import Access
from atoll_contract.document import replace
from atoll_contract.errors import Reason, SpecError, exit_code
from atoll_contract.stage import AddressingStyle, StoreSpec
from atoll_contract.store.base import Store, StoreError, StoreForbidden, StoreUnavailable
from atoll_contract.store.retry import Backoff
from atoll_operator.api.parse import object_store
from atoll_operator.jobs.stage_input import store_spec

F = TypeVar("F", bound=Callable[..., Any])

# Somebody looks at the screen; a stage waits longer.
PATIENCE_SECONDS = 30.0


class NoCredentials(click.ClickException):
    """Says how to get some, in lines for the shell: an AtollError has one line."""

    exit_code = int(exit_code(Reason.STORAGE_FORBIDDEN))

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.message}", file=file, err=file is None)


def endpoint_option(function: F) -> F:
    """`--endpoint URL`."""
    return click.option(
        "--endpoint",
        metavar="URL",
        envvar="ATOLL_ENDPOINT",
        help="Another way to the store than its ObjectStore's endpoint. To a Service a port is forwarded without it.",
    )(function)


def bucket_of(access: Access, name: str, *, endpoint: str | None = None, writing: bool = False) -> Store:
    """The bucket of the ObjectStore `name`, not asked yet.

    Raises:
        SpecError: there is no such ObjectStore, or no pod behind its address.
        NoCredentials: there are none on this machine.
        ClusterError: the API server does not answer, or does not allow it.
    """
    from atoll_contract.store.s3 import S3Store
    from atoll_operator.kube.objects import STORES

    found = access.cluster.read(STORES, access.namespace, name)
    if found is None:
        raise SpecError(f"there is no ObjectStore {name} in namespace {access.namespace}")
    # The annotation that makes a folder of it is the local engine's.
    spec = store_spec(replace(object_store(found), directory=None))
    spec = replace(spec, endpoint=endpoint or spec.endpoint, anonymous=spec.anonymous and not writing)
    if not spec.anonymous:
        _require_credentials(found)
    if endpoint is None:
        spec = _reachable(access, spec)
    return S3Store(spec, backoff=Backoff(total=PATIENCE_SECONDS))


def _require_credentials(store: dict[str, Any]) -> None:
    import botocore.session

    # In the client's own words this would end at the first request, and without what a newcomer needs.
    if botocore.session.Session().get_credentials() is not None:
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


def _reachable(access: Access, spec: StoreSpec) -> StoreSpec:
    """The store at an address that this machine reaches: for a Service, unless this is a pod, that of a port-forward.

    The command's click context ends it.
    """
    from atoll_cli.port_forward import PortForward, service_of

    service = service_of(spec.endpoint)
    if service is None or "KUBERNETES_SERVICE_HOST" in os.environ:
        return spec
    forward = click.get_current_context().with_resource(PortForward(access.cluster, service))
    # The bucket cannot be a part of the host's name here. Requests are signed for the name that they are sent to.
    return replace(spec, endpoint=forward.endpoint, addressing_style=AddressingStyle.PATH)


@contextmanager
def explained(*, endpoint: str | None) -> Iterator[None]:
    """Adds to the store's errors what a user's machine, unlike a stage, may lack."""
    try:
        yield
    except (StoreForbidden, StoreUnavailable) as error:
        if isinstance(error, StoreForbidden):
            advice = "your own credentials are used (AWS_ACCESS_KEY_ID …, AWS_PROFILE, ~/.aws), not the ObjectStore's"
        elif endpoint is None:
            advice = "if this machine reaches the store elsewhere, name that with --endpoint"
        else:
            raise
        raise StoreError(error.reason, f"{error.message}; {advice}") from None


def fetched(store: Store, key: str, path: Path, *, sha256: str, size: int) -> Path:
    """`path`, with the object's bytes after they were checked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Transfer(path.name, size) as transferred:
        store.download(key, path, sha256=sha256, transferred=transferred)
    return path
