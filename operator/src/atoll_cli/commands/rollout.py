"""`atoll rollout`: shows, pauses, resumes and promotes the roll-out of a version to its devices."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from atoll_cli.console import print_view, text_table
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.output import Output, output_option
from atoll_cli.rollouts import RolloutStatus, find_version, promote, rollout_status, step_lines
from atoll_cli.store_access import explain_store_errors, open_engine_store
from atoll_contract.document import to_dict
from atoll_contract.rollout import RolloutControl, RolloutState
from atoll_operator.devices.rollouts import change_control, paused, resumed

ACTIONS = ("status", "pause", "resume", "promote")


@click.command(name="rollout", short_help="Show, pause, resume or promote the roll-out of a version.")
@click.argument("action", type=click.Choice(ACTIONS))
@click.argument("release")
@engine_options(endpoint=True, object_store=True)
@click.option(
    "--channel", default="stable", show_default=True, metavar="NAME", help="The channel, if RELEASE is a model."
)
@click.option("--reason", metavar="TEXT", help="With pause: why; status shows it.")
@click.option(
    "--signing-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With promote: the private key of atoll keygen, if releases are signed.",
)
@output_option
def rollout_command(
    action: str,
    release: str,
    engine: EngineOptions,
    channel: str,
    reason: str | None,
    signing_key: Path | None,
    output: Output,
) -> None:
    """Show how far a version is rolled out, or change that. RELEASE is note-v4, or note for its channel's newest.

    pause stops all further devices, resume goes on where it stopped, also after a halt; the steps that are left come
    later by that time. promote lets every device take the version at once, unless it is paused or halted afterwards. A
    device that has the version keeps it.
    """
    now = time.time()
    with explain_store_errors(endpoint=engine.endpoint):
        access = open_engine_store(engine, writing=action != "status")
        store = access.store
        version = find_version(store, access.namespace, release, channel)
        if action == "pause":
            change_control(store, version, lambda control: paused(control, now=now, reason=reason), now=now)
        elif action == "resume":
            change_control(store, version, lambda control: resumed(control, now=now), now=now)
        elif action == "promote":
            promote(store, version, signing_key)
            change_control(store, version, lambda control: resumed(control, now=now), now=now)
        status = rollout_status(store, version, now=now)
    if output.is_text:
        _print(status)
    else:
        output.print(_document(status), [version.manifest.release])


def _print(status: RolloutStatus) -> None:
    click.echo(f"{status.version.manifest.release}: {_state(status)}")
    print_view(text_table(("STEP", "PERCENT", "FROM", "DEVICES"), step_lines(status)))
    if status.devices:
        rows = [(item.device, str(item.wave), item.runs, item.state, item.due_at or "") for item in status.devices]
        print_view(text_table(("DEVICE", "WAVE", "RUNS", "STATE", "FROM"), rows))


def _state(status: RolloutStatus) -> str:
    control: RolloutControl | None = status.control
    if control is not None and control.state is not RolloutState.RUNNING:
        because = f": {control.reason}" if control.reason else ""
        return f"{control.state} since {control.paused_at}{because}"
    return "promoted to every device" if status.promoted else "running"


def _document(status: RolloutStatus) -> dict[str, Any]:
    control = status.control
    return {
        "release": status.version.manifest.release,
        "state": str(control.state) if control is not None else str(RolloutState.RUNNING),
        "reason": control.reason if control is not None else None,
        "promoted": status.promoted,
        "plan": to_dict(status.plan),
        "devices": [
            {"device": item.device, "wave": item.wave, "runs": item.runs, "state": item.state, "dueAt": item.due_at}
            for item in status.devices
        ],
    }
