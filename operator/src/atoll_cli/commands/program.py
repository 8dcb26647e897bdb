"""`atoll version`, `completion` and `help`: what the program says of itself."""

from __future__ import annotations

import platform

import click
from click.shell_completion import get_completion_class

from atoll_cli.console import output_console
from atoll_cli.output import Output, output_option
from atoll_cli.pages import page_names, section
from atoll_contract import __version__


@click.command(name="version", short_help="Print the version.")
@output_option
def version_command(output: Output) -> None:
    """Print the version of Atoll; with -o json also those of Python and of the system."""
    if output.is_text:
        click.echo(f"atoll {__version__}" + (f", Python {platform.python_version()}" if output.is_wide else ""))
        return
    document = {"version": __version__, "python": platform.python_version(), "system": platform.platform(terse=True)}
    output.print(document, [__version__])


SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion", short_help="Print a script that completes commands by Tab.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the script that lets a shell complete commands and options by Tab.

    \b
    bash, in ~/.bashrc:                  eval "$(atoll completion bash)"
    zsh, in ~/.zshrc after compinit:     eval "$(atoll completion zsh)"
    fish, in ~/.config/fish/config.fish: atoll completion fish | source
    """
    root = click.get_current_context().find_root().command
    script = get_completion_class(shell)
    assert script is not None
    # The variable must be the one that click derives from the program's name.
    click.echo(script(root, {}, "atoll", "_ATOLL_COMPLETE").source())


@click.command(name="help", short_help="Print the help of a command, or a page of the documentation.")
@click.argument("name", metavar="[COMMAND|REASON|PAGE]", required=False)
@click.pass_context
def help_command(context: click.Context, name: str | None) -> None:
    """Print the help of COMMAND, as atoll COMMAND --help does, or the list of the commands.

    With the REASON of a run, such as QualityGateFailed, it says what to do. A PAGE is one of the documentation, such
    as data, or a section of it, such as data#box-empty.
    """
    root = context.find_root()
    if name is None:
        click.echo(root.get_help())
        return
    group = root.command
    assert isinstance(group, click.Group)
    if name not in group.list_commands(context) and (text := section(name)):
        from rich.markdown import Markdown

        output_console().print(Markdown(text, hyperlinks=False))
        return
    if "#" in name:
        raise click.BadParameter(f"there is no page or section {name!r}; pages are {', '.join(page_names())}")
    _, command, _ = group.resolve_command(root, [name])
    assert command is not None
    click.echo(command.get_help(click.Context(command, info_name=name, parent=root)))
