"""The commands of `atoll-edge` that change or show the device's models; the running agent sees the change at once."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atoll_edge.config import EdgeConfig
from atoll_edge.models import device_state
from atoll_edge.models.device_state import DeviceState, StateError
from atoll_edge.models.device_store import DeviceStore
from atoll_edge.models.refusal import Refusal
from atoll_edge.models.sideload import import_bundle

STATUS_SECONDS = 3
Configuration = Callable[[argparse.Namespace], EdgeConfig]


def add_commands(commands: Any, configuration: Configuration) -> None:
    """`import`, `pin`, `unpin`, `rollback` and `status`."""
    bring = commands.add_parser("import", help="bring a bundle (model.tar.gz) from a file; it stays until `unpin`")
    bring.add_argument("bundle", type=Path)
    bring.set_defaults(command=lambda options: import_command(options, configuration(options)))
    changes = {
        "pin": (device_state.pinned, "stay with the model that serves now"),
        "unpin": (device_state.unpinned, "follow the channel again"),
        "rollback": (device_state.rolled_back, "serve the model before, and stay with it"),
    }
    for name, (change, text) in changes.items():
        command = commands.add_parser(name, help=text)
        command.set_defaults(command=lambda options, change=change: change_command(change, configuration(options)))
    status = commands.add_parser("status", help="what the running agent says of itself, as JSON")
    status.set_defaults(command=lambda options: status_command(configuration(options)))
    for command in commands.choices.values():
        command.add_argument("--config", type=Path, help="settings (default /etc/atoll-edge/config.yaml)")
        command.add_argument("--state-dir", help="the device's store (default /var/lib/atoll-edge)")


def import_command(options: argparse.Namespace, config: EdgeConfig) -> int:
    device = DeviceStore(Path(config.state_dir))
    try:
        release, name = import_bundle(options.bundle, device)
    except Refusal as refusal:
        print(f"atoll-edge: refused: {refusal.message}", file=sys.stderr)
        return 2
    print(f"{name} ({release[:12]}) passed its self-test and serves next, pinned; `atoll-edge unpin` ends that")
    return 0


def change_command(change: Callable[[DeviceState], DeviceState], config: EdgeConfig) -> int:
    try:
        state = DeviceStore(Path(config.state_dir)).change(change)
    except StateError as error:
        print(f"atoll-edge: {error}", file=sys.stderr)
        return 2
    print(f"current {(state.current or 'none')[:12]}, pinned {(state.pinned or 'no')[:12]}")
    return 0


def status_command(config: EdgeConfig) -> int:
    import urllib.request  # for this command alone, and slow to load

    url = f"http://127.0.0.1:{config.http.port}/status"
    try:
        with urllib.request.urlopen(url, timeout=STATUS_SECONDS) as answer:
            print(json.dumps(json.load(answer), indent=2))
    except (OSError, ValueError) as error:
        print(f"atoll-edge: no agent answers on {url}: {error}", file=sys.stderr)
        return 1
    return 0
