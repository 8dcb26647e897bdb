"""`atoll doctor`: what is wrong with an installation, and what to do about it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Set

import click

from atoll_cli.cluster_access import TIMEOUT_SECONDS
from atoll_cli.console import FAILED
from atoll_cli.doctor.api import check_api, check_clock, check_devices, check_operator
from atoll_cli.doctor.facts import Facts, read_facts
from atoll_cli.doctor.gpu import check_profiles
from atoll_cli.doctor.images import K3sArchives, check_images, k3s_images_folder, read_archives
from atoll_cli.doctor.network import check_policies
from atoll_cli.doctor.result import CheckResult, Level, fail
from atoll_cli.doctor.rights import OPERATOR_RIGHTS, USER_RIGHTS, check_rights
from atoll_cli.doctor.storage import check_storage
from atoll_cli.doctor.store import check_stores
from atoll_cli.options import ClusterOptions, cluster_options
from atoll_cli.output import Output, output_option
from atoll_cli.pages import with_links
from atoll_operator.kube.errors import ClusterError

# The names on the lines.
CHECKS = (
    "api",
    "kinds",
    "operator",
    "versions",
    "devices",
    "clock",
    "rights",
    "operator-rights",
    "policies",
    "storage",
    "profiles",
    "gpu",
    "images",
    "archives",
    "store",
)


@click.command(name="doctor", short_help="Find what is wrong with an installation, and say what to do.")
@click.option("--no-pod", is_flag=True, help="Do not try the buckets, for which a short pod is started.")
@click.option(
    "--skip",
    type=click.Choice(CHECKS),
    metavar="CHECK",
    multiple=True,
    help="Leave out a check, by the name on its lines; can be given several times.",
)
@cluster_options
@output_option
def doctor_command(no_pod: bool, skip: tuple[str, ...], cluster: ClusterOptions, output: Output) -> int:
    """Check the cluster that kubectl reaches, a Pi's k3s as well: API server, Atoll's kinds, rights, network policies,
    storage, images, clocks, GPUs, and each bucket of the namespace from a short pod with its own Secret.

    On a k3s machine itself the archives of its images are checked, too. The exit code is 1 if anything failed.
    """
    results = []
    for result in _results(cluster, skipped={*skip, *(["store"] if no_pod else [])}):
        results.append(result)
        if output.is_text:
            _show(result)
    if output.is_text:
        counts = (f"{sum(item.level is level for item in results)} {level}" for level in Level)
        click.echo(", ".join(counts))
    else:
        wrong = [item.check for item in results if item.level is not Level.OK]
        output.print({"checks": [item.document() for item in results]}, dict.fromkeys(wrong))
    return FAILED if any(item.level is Level.FAIL for item in results) else 0


def _show(result: CheckResult) -> None:
    color = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}[result.level]
    click.echo(f"{click.style(f'{result.level:<5}', fg=color)} {result.check}: {with_links(result.message)}")
    if result.advice:
        click.echo(f"      → {with_links(result.advice)}")


def _results(options: ClusterOptions, *, skipped: Set[str]) -> Iterator[CheckResult]:
    from atoll_operator.kube.client import connect_as_user
    from atoll_operator.kube.clock import ServerClock

    clock = ServerClock()
    try:
        cluster, namespace = connect_as_user(
            options.kubeconfig, options.context, timeout_seconds=TIMEOUT_SECONDS, clock=clock
        )
        namespace = options.namespace or namespace
        facts = read_facts(cluster, clock, namespace, own=USER_RIGHTS, operators=OPERATOR_RIGHTS)
    except ClusterError as error:
        advice = "try kubectl version; --context and --kubeconfig name another cluster"
        yield fail("api", f"the API server does not answer: {error}", advice)
        return
    known = check_facts(facts, read_archives(k3s_images_folder()))
    yield from (result for result in known if result.check not in skipped)
    if "store" not in skipped:
        yield from check_stores(cluster, facts, on_start=lambda name: click.echo(f"… ObjectStore {name}", err=True))


def check_facts(facts: Facts, archives: K3sArchives | None) -> Iterable[CheckResult]:
    """The checks that need nothing but facts."""
    return itertools.chain(
        check_api(facts),
        check_operator(facts),
        check_devices(facts),
        check_clock(facts),
        check_rights(facts),
        check_policies(facts),
        check_storage(facts),
        check_profiles(facts),
        check_images(facts, archives),
    )
