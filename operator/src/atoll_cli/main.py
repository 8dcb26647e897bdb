"""The entry point of `atoll` and `kubectl atoll`: the table of the commands, and the handling of their errors.

A user's mistake gives a sentence and an exit code; only a fault of Atoll itself gives a traceback.
"""

import importlib
import logging
import os
import sys
from collections.abc import Sequence

import click

from atoll_cli.console import EXIT_CODES, FAILED, INTERRUPTED
from atoll_cli.options import is_plugin
from atoll_contract import __version__
from atoll_contract.errors import AtollError, ExitCode
from atoll_operator.kube.errors import ClusterError

# Command → module of `atoll_cli.commands` that defines it as `<command>_command`.
COMMANDS = {
    "record": "record",
    "frames": "frames",
    "test-video": "test_video",
    "compare": "compare",
    "new": "new",
    "ui": "ui",
    "run": "run",
    "validate": "submit",
    "report": "report",
    "releases": "releases",
    "cancel": "lifecycle",
    "keygen": "keygen",
    "submit": "submit",
    "status": "status",
    "wait": "status",
    "suspend": "lifecycle",
    "resume": "lifecycle",
    "retry": "lifecycle",
    "logs": "logs",
    "pull": "releases",
    "push": "push",
    "harvest": "harvest",
    "prune": "prune",
}


class Commands(click.Group):
    """Imports each command when it is used: `run` needs modules that Windows lacks."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"atoll_cli.commands.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="atoll")
@click.option("-v", "--verbose", is_flag=True, help="Also log what the engine does.")
def cli(verbose: bool) -> None:
    """Labelled pictures in, a detector for the robot out."""
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        answer = cli.main(args=arguments, prog_name=_name(), standalone_mode=False)
        return int(answer or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except AtollError as error:
        return _print_error(error.message, int(error.code))
    except ClusterError as error:
        return _print_error(str(error), FAILED)
    except BrokenPipeError:
        # The reader (`| head`) has closed the pipe; the interpreter must not try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        code = ExitCode.DISK_FULL if error.errno == 28 else FAILED
        return _print_error(f"{error.filename or 'a file'}: {error.strerror}", int(code))


def _name() -> str:
    return "kubectl atoll" if is_plugin() else "atoll"


def _print_error(message: str, code: int) -> int:
    click.echo(f"error: {message}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
