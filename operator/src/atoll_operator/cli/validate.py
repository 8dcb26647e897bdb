"""`atoll validate`: says offline what the API server would say of a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from atoll_contract.reasons import ExitCode
from atoll_operator.api.manifests import LocatedProblem, Manifest, Reading, read_files
from atoll_operator.cli.manifest_files import files_option


def validate(paths: Sequence[Path], *, as_json: bool = False) -> int:
    """Print what is wrong with the manifests in `paths`; the exit code: 0, or 20 (InvalidSpec) if anything is."""
    reading = read_files(paths)
    if as_json:
        click.echo(json.dumps(_document(reading), indent=2, ensure_ascii=False))
    else:
        _print(reading)
    return int(ExitCode.INVALID_SPEC if reading.problems else ExitCode.OK)


@click.command(name="validate", short_help="Check manifests offline, as the API server would.")
@files_option("manifests")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(context: click.Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Check TrainingRuns, ObjectStores, TrainingProfiles and the rest without a cluster.

    The schemas and rules are those that the API server has. Objects that are not Atoll's are passed over. The exit
    code is 0 if all are valid, else 20.
    """
    context.exit(validate(paths, as_json=as_json))


def _print(reading: Reading) -> None:
    for problem in reading.unreadable:
        click.echo(str(problem))
    for manifest in reading.manifests:
        for problem in manifest.problems:
            click.echo(str(problem))
        if not manifest.problems:
            click.echo(f"{manifest.source}:{manifest.line}: {manifest.title}: {_verdict(manifest)}")
    if reading.problems:
        click.echo(f"{len(reading.problems)} problem{'s' if len(reading.problems) > 1 else ''}")


def _verdict(manifest: Manifest) -> str:
    return "valid" if manifest.is_atoll else "not an Atoll object, not checked"


def _document(reading: Reading) -> dict[str, object]:
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
        for manifest in reading.manifests
    ]
    problems = [_problem(problem) for problem in reading.problems]
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
