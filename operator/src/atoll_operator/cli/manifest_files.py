"""`-f FILE`, as the commands take it that read manifests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def files_option(what: str) -> Callable[[F], F]:
    """`-f`, once or several times, as the parameter `paths`; `what` a file or folder holds, for the help."""
    return click.option(
        "-f",
        "--filename",
        "paths",
        multiple=True,
        required=True,
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE",
        help=f'File or folder with {what}; "-" reads standard input. May be given several times.',
    )
