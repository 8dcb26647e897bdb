"""`python -m support.noop_atoll FILE STORE`: `atoll run -o json` whose stages do no work (`noop_stages`)."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from atoll_cli.commands.run import Interruption
from atoll_cli.console import exit_status
from atoll_cli.local.launch import LaunchRequest, launch
from atoll_cli.local.runfile import read_run_file
from atoll_cli.run_display import PlainDisplay
from atoll_contract.errors import AtollError
from support.noop_run import noop_command


def command(file: Path, store: Path) -> Sequence[str]:
    """The command instead of `atoll run`."""
    return [sys.executable, "-P", "-m", "support.noop_atoll", str(file), str(store)]


def main(file: Path, store: Path) -> int:
    display = PlainDisplay()
    try:
        result = launch(
            LaunchRequest(read_run_file([file], store=store), store),
            observer=display,
            on_start=Interruption(display).watch,
            command=noop_command,
        )
    except AtollError as error:
        display.say(f"error: {error.message}")
        return int(error.code)
    print(json.dumps(result.document))
    return exit_status(result.status)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
