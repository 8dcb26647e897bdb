"""Whether the programs take a command line of a page; nothing is run."""

import shlex
from pathlib import Path
from unittest import mock

import click

from atoll_cli.main import cli
from atoll_cli.param_types import InputPath
from atoll_edge.cli import parser as edge_parser


def parse(line: str) -> None:
    """Raises what the program would say of the line, a ClickException or SystemExit. Its files need not be there."""
    program, *words = shlex.split(line)
    if program == "atoll-edge":
        edge_parser().parse_args(words)
        return
    assert program == "atoll"
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, f"there is no command {words[0]}"
    with mock.patch.object(InputPath, "convert", lambda _self, value, _param, _ctx: Path(value)):
        command.make_context(words[0], words[1:])
