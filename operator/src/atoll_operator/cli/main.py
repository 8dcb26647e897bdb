"""`atoll`, and `kubectl atoll`: one file a command, imported when it is called.

Every user's mistake ends here as a sentence and an exit code; only a fault of Atoll itself shows a traceback.
"""

import importlib
import logging
import os
import sys
from collections.abc import Sequence

import click

from atoll_contract.errors import AtollError
from atoll_contract.reasons import ExitCode
from atoll_operator.cli.cluster_access import is_plugin
from atoll_operator.cli.endings import EXIT_CODES, FAILED, INTERRUPTED
from atoll_operator.kube.errors import ClusterError

# Command → module, which has the click command as `command`.
COMMANDS = {
    "record": "record",
    "frames": "frames",
    "test-video": "video_trial",
    "compare": "compare",
    "new": "new",
    "ui": "ui",
    "run": "run",
    "validate": "validate",
    "report": "report",
    "releases": "releases",
    "cancel": "cancel",
    "keygen": "keygen",
    "submit": "submit",
    "status": "status",
    "wait": "wait",
    "suspend": "suspend",
    "resume": "resume",
    "retry": "retry",
    "logs": "logs",
    "pull": "pull",
    "push": "push",
    "harvest": "harvest",
    "prune": "prune",
}


class Commands(click.Group):
    """The commands, imported on demand: `run` alone needs what Windows lacks."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"atoll_operator.cli.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="atoll", prog_name="atoll")
@click.option("-v", "--verbose", is_flag=True, help="Also log what the engine does.")
def cli(verbose: bool) -> None:
    """Labelled pictures in, a detector for the robot out."""
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command line."""
    try:
        answer = cli.main(args=arguments, prog_name=_name(), standalone_mode=False)
        return int(answer or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except AtollError as error:
        return _complain(error.message, int(error.code))
    except ClusterError as error:
        return _complain(str(error), FAILED)
    except BrokenPipeError:
        # The reader (`| head`) has enough; the interpreter must not try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        code = ExitCode.DISK_FULL if error.errno == 28 else FAILED
        return _complain(f"{error.filename or 'a file'}: {error.strerror}", int(code))


def _name() -> str:
    return "kubectl atoll" if is_plugin() else "atoll"


def _complain(message: str, code: int) -> int:
    click.echo(f"error: {message}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
