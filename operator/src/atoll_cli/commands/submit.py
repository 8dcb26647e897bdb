"""`atoll submit` and `atoll validate`: check a file, and create its objects in the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from atoll_cli.cluster_access import ClusterAccess, connect
from atoll_cli.options import ClusterOptions, cluster_options, files_option
from atoll_cli.output import Output, output_option
from atoll_contract.errors import ExitCode, SpecError
from atoll_contract.recipe import describe
from atoll_contract.train_spec import Preset
from atoll_operator.api.decode import training_run
from atoll_operator.api.manifests import LocatedProblem, Manifest, ManifestFiles, read_files
from atoll_operator.jobs.stage_input import spec_digest
from atoll_operator.kube.errors import AlreadyExists
from atoll_operator.kube.objects import PROFILES, RUNS, STORES, SWEEPS

# In the order of creation: a run after what it names.
_RESOURCES = {"TrainingProfile": PROFILES, "ObjectStore": STORES, "TrainingRun": RUNS, "TrainingSweep": SWEEPS}
_STARTED = ("TrainingRun", "TrainingSweep")


@click.command(name="submit", short_help="Check a file and start its TrainingRun on the cluster.")
@files_option("manifests")
@cluster_options
@click.option("-w", "--watch", is_flag=True, help="Follow the run or sweep until it ends, and end with its exit code.")
@output_option
@click.pass_context
def submit_command(
    context: click.Context, paths: tuple[Path, ...], cluster: ClusterOptions, watch: bool, output: Output
) -> None:
    """Check the file as atoll validate does, then create its TrainingRuns, TrainingSweeps, ObjectStores and profiles.

    What is there already is left as it is; a run of the same name with other settings is refused. Objects that are
    not Atoll's (Secrets, say) are named and left to kubectl apply.
    """
    if watch and not output.is_text:
        raise click.UsageError(f"--watch follows a run on the screen; leave -o {output.format} out")
    files = read_files(paths)
    if files.problems:
        for problem in files.problems:
            click.echo(str(problem), err=True)
        context.exit(int(ExitCode.INVALID_SPEC))
    order = list(_RESOURCES)
    for other in (item for item in files.manifests if item.kind not in order):
        click.echo(f"{other.title} in {other.source} is left to kubectl apply", err=True)
    ours = sorted((item for item in files.manifests if item.kind in order), key=lambda m: order.index(m.kind))
    runs = [item for item in ours if item.kind in _STARTED]
    if not runs:
        raise SpecError("there is no TrainingRun or TrainingSweep in the file; kubectl apply creates the other kinds")
    if watch and len(runs) > 1:
        raise SpecError(f"--watch follows one run or sweep, and the file has {len(runs)}; see atoll status RUN --watch")
    access = connect(cluster)
    created = [_create(access, item, cluster, output) for item in ours]
    if not output.is_text:
        output.print(created, [str(item["name"]) for item in created if item["kind"] in _STARTED])
    if watch:
        from atoll_cli.commands.status import follow, follow_sweep

        shown = follow_sweep if created[-1]["kind"] == "TrainingSweep" else follow
        namespace = _namespace(access, ours[-1], cluster) or access.namespace
        context.exit(shown(ClusterAccess(access.cluster, namespace), str(created[-1]["name"])))


def _create(
    access: ClusterAccess, manifest: Manifest, cluster: ClusterOptions, output: Output
) -> dict[str, str | bool | None]:
    """Create the object unless it is there; returns what it is and whether it was created."""
    resource = _RESOURCES[manifest.kind]
    namespace = _namespace(access, manifest, cluster)
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
        output.say(f"{title} is there already" + ("" if same else " and differs from the file; it is left as it is"))
        return {"kind": manifest.kind, "name": manifest.name, "namespace": namespace, "created": False}
    name = str(created["metadata"]["name"])
    output.say(f"{manifest.kind}/{name}{f' in namespace {namespace}' if namespace else ''} created")
    return {"kind": manifest.kind, "name": name, "namespace": namespace, "created": True}


def _namespace(access: ClusterAccess, manifest: Manifest, cluster: ClusterOptions) -> str | None:
    """None for a cluster-wide object. Raises SpecError if the file and the command line name different namespaces, as
    kubectl does."""
    if manifest.kind == "TrainingProfile":
        return None
    if manifest.namespace and cluster.namespace and manifest.namespace != cluster.namespace:
        source = f"{manifest.source}:{manifest.line}"
        raise SpecError(f"{source}: {manifest.title} is for namespace {manifest.namespace}, not {cluster.namespace}")
    return manifest.namespace or access.namespace


def validate(paths: Sequence[Path], output: Output) -> int:
    """Print the problems of the manifests in `paths`; returns the exit code: 0, or 20 (InvalidSpec) for any problem."""
    files = read_files(paths)
    if output.is_text:
        _print(files)
    else:
        output.print(_document(files), [item.title for item in files.manifests])
    if not files.problems and not any(item.is_atoll for item in files.manifests):
        raise SpecError("none of the objects is one of Atoll's, so nothing was checked; name a file with a TrainingRun")
    return int(ExitCode.INVALID_SPEC if files.problems else ExitCode.OK)


@click.command(name="validate", short_help="Check manifests offline, as the API server would.")
@files_option("manifests")
@output_option
@click.pass_context
def validate_command(context: click.Context, paths: tuple[Path, ...], output: Output) -> None:
    """Check TrainingRuns, ObjectStores, TrainingProfiles and the rest without a cluster.

    The schemas and rules are those that the API server has. Objects that are not Atoll's are passed over. The exit
    code is 0 if all are valid, else 20.
    """
    context.exit(validate(paths, output))


def _print(files: ManifestFiles) -> None:
    for problem in files.unreadable:
        click.echo(str(problem))
    for manifest in files.manifests:
        for problem in manifest.problems:
            click.echo(str(problem))
        if not manifest.problems:
            result = "valid" if manifest.is_atoll else "not an Atoll object, not checked"
            click.echo(f"{manifest.source}:{manifest.line}: {manifest.title}: {result}")
            if chosen := _chosen(manifest):
                click.echo(f"  {chosen}")
    if files.problems:
        click.echo(f"{len(files.problems)} problem{'s' if len(files.problems) > 1 else ''}")


def _chosen(manifest: Manifest) -> str | None:
    """What the preset fills in where a TrainingRun leaves its training open."""
    if manifest.kind != "TrainingRun" or not manifest.is_atoll:
        return None
    training = training_run(manifest.value).training
    own_settings = ", ".join(sorted(training.hyperparameters))
    steps = f"{training.steps} steps" if training.steps else "the steps go by the number of pictures"
    if training.preset is not Preset.AUTO:
        steps = f"{training.expected_steps} steps"
    text = f"training.preset {training.preset}: {steps}; {describe(training.preset, training.init_from.type)}"
    return f"{text}; set by hand: {own_settings}" if own_settings else text


def _document(files: ManifestFiles) -> dict[str, object]:
    objects = [
        {
            "file": manifest.source,
            "line": manifest.line,
            "kind": manifest.kind,
            "name": manifest.name,
            "namespace": manifest.namespace,
            "checked": manifest.is_atoll,
            "valid": not manifest.problems,
        }
        for manifest in files.manifests
    ]
    problems = [_problem(problem) for problem in files.problems]
    return {"valid": not problems, "objects": objects, "problems": problems}


def _problem(located: LocatedProblem) -> dict[str, object]:
    return {
        "file": located.source,
        "line": located.line,
        "object": located.object,
        "path": located.problem.field,
        "message": located.problem.message,
        "advice": located.problem.advice,
    }
