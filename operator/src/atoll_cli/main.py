"""The entry point of `atoll` and `kubectl atoll`: the group of the commands, its help, and the handling of errors.

A user's mistake gives a sentence and an exit code; only a fault of Atoll itself gives a traceback.
"""

import difflib
import functools
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

import click

from atoll_cli.command_table import COMMANDS, SYNONYMS, CommandGroup
from atoll_cli.console import EXIT_CODES, FAILED, INTERRUPTED
from atoll_cli.options import is_plugin
from atoll_contract import __version__
from atoll_contract.errors import AtollError, ExitCode
from atoll_operator.kube.errors import ClusterError

_NAME_WIDTH = max(map(len, COMMANDS))
# Of one command in the list: a window of 80 columns, of which click uses 78, has room for two beside each other.
_MIN_WIDTH = 39
_PROGRAM = ", ".join(name for name, info in COMMANDS.items() if info.group is CommandGroup.PROGRAM)
_ALSO = f"Every command has -v (logs) and -h (help). Also: {_PROGRAM}."


class Commands(click.Group):
    """Imports each command when it is used: `run` needs modules that Windows lacks."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return _load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"there is no command {name!r}{_near(name)}", ctx)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Short enough for one screen: the groups of commands, and nothing that the help of each command says."""
        formatter.write_usage(ctx.command_path, "[-v] COMMAND [ARGUMENTS]...")
        formatter.write_text(self.help or "")
        formatter.write_paragraph()
        columns = max(1, formatter.width // _MIN_WIDTH)
        for group in CommandGroup:
            cells = [
                f"  {name:<{_NAME_WIDTH}}  {info.summary}" for name, info in COMMANDS.items() if info.group is group
            ]
            if group is not CommandGroup.PROGRAM:
                formatter.write(f"{group}:\n")
                for line in _side_by_side(cells, columns, formatter.width // columns):
                    formatter.write(f"{line}\n")
        formatter.write_paragraph()
        formatter.write_text(_ALSO)
        formatter.write_text(EXIT_CODES)


def _side_by_side(cells: Sequence[str], columns: int, width: int) -> Iterator[str]:
    """Lines of so many cells, which are read down and then across, as those of `ls`."""
    rows = -(-len(cells) // columns)
    for row in range(rows):
        yield "".join(f"{cell:<{width}}" for cell in cells[row::rows]).rstrip()


@functools.cache
def _load(name: str) -> click.Command:
    """The command, with what every command has: an example, and `-v` after its name, too."""
    info = COMMANDS[name]
    module = importlib.import_module(f"atoll_cli.commands.{info.module}")
    command: click.Command = getattr(module, f"{name.replace('-', '_')}_command")
    command.epilog = f"Example: {_name()} {name} {info.example}"
    command.params.append(_VERBOSE)
    return command


def _near(name: str) -> str:
    close = difflib.get_close_matches(name, [*COMMANDS, *SYNONYMS], n=1)
    return f'; did you mean "{SYNONYMS.get(close[0], close[0])}"?' if close else ""


def _set_verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value:
        logging.getLogger().setLevel(logging.INFO)


_VERBOSE = click.Option(
    ["-v", "--verbose"],
    is_flag=True,
    expose_value=False,
    callback=_set_verbose,
    help="Also log what the engine does.",
)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="atoll")
@click.option("-v", "--verbose", is_flag=True, help="Also log what the engine does.")
@click.pass_context
def cli(context: click.Context, verbose: bool) -> None:
    """Labelled pictures in, a detector for the robot out."""
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        answer = cli.main(args=arguments, prog_name=_name(), standalone_mode=False)
        return int(answer or 0)
    except click.ClickException as error:
        return _print_usage_error(error)
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


def _print_usage_error(error: click.ClickException) -> int:
    """Print click's errors as those of Atoll: a sentence that begins small, and where the help is."""
    if isinstance(error, click.NoSuchOption):
        near = f"; did you mean {error.possibilities[0]}?" if error.possibilities else ""
        message = f"there is no option {error.option_name}{near}"
    elif isinstance(error, click.UsageError):
        message = " ".join(error.format_message().split()).rstrip(".")
        message = message[:1].lower() + message[1:]
    else:
        message = error.format_message()
    code = _print_error(message, error.exit_code)
    if isinstance(error, click.UsageError):
        click.echo(f"hint: {error.ctx.command_path if error.ctx else _name()} --help says what it takes", err=True)
    return code


def _print_error(message: str, code: int) -> int:
    click.echo(f"error: {message}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
