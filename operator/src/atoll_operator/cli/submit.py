"""`atoll submit`: checks a file and gives its objects to the cluster."""

from __future__ import annotations

from pathlib import Path

import click

from atoll_contract.errors import SpecError
from atoll_contract.reasons import ExitCode
from atoll_operator.api.manifests import Manifest, read_files
from atoll_operator.api.stage_input import spec_digest
from atoll_operator.cli.cluster_access import Access, Where, cluster_options
from atoll_operator.cli.manifest_files import files_option
from atoll_operator.kube.errors import AlreadyExists

# Before the run that names them.
_ORDER = ("TrainingProfile", "ObjectStore", "TrainingRun")


@click.command(name="submit", short_help="Check a file and start its TrainingRun on the cluster.")
@files_option("manifests")
@cluster_options
@click.option("-w", "--watch", is_flag=True, help="Follow the run until it ends, and end with its exit code.")
@click.pass_context
def command(context: click.Context, paths: tuple[Path, ...], where: Where, watch: bool) -> None:
    """Check the file as atoll validate does, then create its TrainingRuns, ObjectStores and TrainingProfiles.

    What is there already is left as it is; a run of the same name with other settings is refused. Objects that are
    not Atoll's (Secrets, say) are named and left to kubectl apply.
    """
    reading = read_files(paths)
    if reading.problems:
        for problem in reading.problems:
            click.echo(str(problem), err=True)
        context.exit(int(ExitCode.INVALID_SPEC))
    for other in (item for item in reading.manifests if item.kind not in _ORDER):
        click.echo(f"{other.title} in {other.source} is left to kubectl apply", err=True)
    ours = sorted((item for item in reading.manifests if item.kind in _ORDER), key=lambda m: _ORDER.index(m.kind))
    runs = [item for item in ours if item.kind == "TrainingRun"]
    if not runs:
        raise SpecError("there is no TrainingRun in the file; kubectl apply creates the other kinds")
    if watch and len(runs) > 1:
        raise SpecError(f"--watch follows one run, and the file has {len(runs)}; see atoll status RUN --watch")
    access = where.connect()
    names = [_create(access, item, where) for item in ours]
    if watch:
        from atoll_operator.cli.status import follow

        namespace = _namespace(access, ours[-1], where) or access.namespace
        context.exit(follow(Access(access.cluster, namespace), names[-1]))


def _create(access: Access, manifest: Manifest, where: Where) -> str:
    """Create the object unless it is there; its name."""
    from atoll_operator.kube.resources import PROFILES, RUNS, STORES

    resource = {"TrainingProfile": PROFILES, "ObjectStore": STORES, "TrainingRun": RUNS}[manifest.kind]
    namespace = _namespace(access, manifest, where)
    title = f"{manifest.title} in namespace {namespace}" if namespace else manifest.title
    try:
        created = access.cluster.create(resource, namespace, dict(manifest.value))
    except AlreadyExists:
        there = access.cluster.read(resource, namespace, manifest.name)
        if there is None:
            raise SpecError(f"{title} was there and is gone; submit it once more") from None
        if manifest.kind == "TrainingRun" and spec_digest(there) != spec_digest(manifest.value):
            raise SpecError(f"{title} is there with other settings; submit this one under a new name") from None
        same = there.get("spec") == manifest.value["spec"]
        click.echo(f"{title} is there already" + ("" if same else " and differs from the file; it is left as it is"))
        return manifest.name
    name = str(created["metadata"]["name"])
    click.echo(f"{manifest.kind}/{name}{f' in namespace {namespace}' if namespace else ''} created")
    return name


def _namespace(access: Access, manifest: Manifest, where: Where) -> str | None:
    """Raises SpecError where the file and the command line name different ones, as kubectl does."""
    if manifest.kind == "TrainingProfile":
        return None
    if manifest.namespace and where.namespace and manifest.namespace != where.namespace:
        place = f"{manifest.source}:{manifest.line}"
        raise SpecError(f"{place}: {manifest.title} is for namespace {manifest.namespace}, not {where.namespace}")
    return manifest.namespace or access.namespace
