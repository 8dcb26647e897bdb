"""`-o FORMAT`: what a command prints, the same on every command that lists or makes something; and `--to PATH`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml
from click.shell_completion import CompletionItem

from atoll_cli.console import print_json
from atoll_operator.api.yaml import plain

F = TypeVar("F", bound=Callable[..., Any])


class Format(StrEnum):
    """Sentences and tables (`TEXT`, and `WIDE` with more columns), or documents for programs."""

    TEXT = "text"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


# The default is not named: a user leaves the option out.
CHOICES = (Format.JSON, Format.YAML, Format.WIDE, Format.NAME)


@dataclass(frozen=True)
class Output:
    """The output that a user asked for."""

    format: Format = Format.TEXT

    @property
    def is_text(self) -> bool:
        """Whether people read it. If not, standard output holds the document alone."""
        return self.format in (Format.TEXT, Format.WIDE)

    @property
    def is_wide(self) -> bool:
        return self.format is Format.WIDE

    def print(self, document: object, names: Iterable[str]) -> None:
        """Print the document as JSON or YAML or, of it, the `names`: those that other commands of Atoll take."""
        if self.format is Format.NAME:
            for name in names:
                click.echo(name)
        elif self.format is Format.YAML:
            click.echo(to_yaml(document), nl=False)
        else:
            print_json(document)

    def say(self, text: str) -> None:
        """Print a sentence on standard output or, where that holds a document, on standard error."""
        click.echo(text, err=not self.is_text)


class _Dumper(yaml.SafeDumper):
    """Quotes each text that kubectl would read as something else, and repeats what is there twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        style = None if text and plain(text) == text else '"'
    except ValueError:
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(document: object) -> str:
    """The document, of plain JSON types, as kubectl reads it."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _FormatType(click.ParamType[str]):
    """Any text: `_output` looks at it, as it may be a path."""

    name = "format"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        return [CompletionItem(item.value) for item in CHOICES if item.startswith(incomplete)]


_FORMATS = ", ".join(CHOICES[:-1]) + f" or {CHOICES[-1]}"


def output_option(function: F) -> Any:
    """`-o FORMAT` and its older spelling `--json`, given to the command as `output`."""

    @functools.wraps(function)
    def with_output(*args: Any, output_format: str | None, as_json: bool, **kwargs: Any) -> Any:
        chosen = _known(output_format)
        if output_format is not None and chosen is None:
            raise click.BadParameter(f"{output_format!r} is no format; write {_FORMATS}", param_hint="-o")
        return function(*args, output=_output(chosen, as_json=as_json), **kwargs)

    return _add_format(with_output)


def output_options(
    *, file: str = "", folder: str = "", default: Path | None = None, required: bool = False
) -> Callable[[F], Any]:
    """`-o FORMAT` as `output_option` has it, and `--to PATH`, given to the command as `to`. `file` or `folder` is the
    help of what lies there.

    Until 0.2 the path was the value of `-o`: a value that is no format still is, with a warning.
    """
    path_type = click.Path(path_type=Path, dir_okay=not file, file_okay=not folder)

    def decorate(function: F) -> Any:
        @functools.wraps(function)
        def with_outputs(*args: Any, output_format: str | None, as_json: bool, to: Path | None, **kwargs: Any) -> Any:
            chosen = _known(output_format)
            if output_format is not None and chosen is None:
                to = _former_path(output_format, to, path_type)
            to = default if to is None else to
            if to is None and required:
                kind = "FILE" if file else "DIR"
                raise click.UsageError(f"--to {kind} is missing: {folder or file}")
            return function(*args, output=_output(chosen, as_json=as_json), to=to, **kwargs)

        shown = f"{file or folder}" + (f"  [default: {default}]" if default else "")
        shown += "  [required]" if required else ""
        add_path = click.option("--to", type=path_type, metavar="FILE" if file else "DIR", help=shown)
        return add_path(_add_format(with_outputs))

    return decorate


def _add_format(function: Any) -> Any:
    as_json = click.option("--json", "as_json", is_flag=True, hidden=True, help="The same as -o json.")
    text = f"Print {_FORMATS}, not sentences."
    named = click.option("-o", "--output", "output_format", type=_FormatType(), metavar="FORMAT", help=text)
    return named(as_json(function))


def _known(text: str | None) -> Format | None:
    return next((item for item in CHOICES if text is not None and item == text.lower()), None)


def _output(chosen: Format | None, *, as_json: bool) -> Output:
    if as_json and chosen not in (None, Format.JSON):
        raise click.UsageError(f"--json and -o {chosen} are two formats; give one of them")
    return Output(Format.JSON if as_json else chosen or Format.TEXT)


def _former_path(text: str, to: Path | None, path_type: click.Path) -> Path:
    if to is not None:
        raise click.BadParameter(f"{text!r} is no format; write {_FORMATS}", param_hint="-o")
    click.echo(
        f"warning: -o {text} is taken as --to {text}; the next version takes -o for a format alone ({_FORMATS})",
        err=True,
    )
    return Path(os.fsdecode(path_type.convert(text, None, click.get_current_context())))
