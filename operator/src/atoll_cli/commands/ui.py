"""`atoll ui`: serves a page on this machine with the functions of the command line."""

from __future__ import annotations

import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.options import store_option
from atoll_cli.store_access import open_local_store
from atoll_contract.errors import SpecError

PORT = 5809
OPENER = "open-atoll-ui.html"


@click.command(name="ui", short_help="Open a page on this machine: drop an archive, train, compare.")
@store_option
@click.option("-n", "--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Namespace in that store.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one.")
@click.option("--open/--no-open", "show", default=True, show_default=True, help="Open a browser.")
def ui_command(store: Path, namespace: str, port: int, show: bool) -> None:
    """Serve a page on 127.0.0.1 until Ctrl-C; nobody else on the network can reach it.

    Drop a labelled archive, see what is in it, start a run and watch it, open its report, fetch its model, try it on a
    picture, compare two releases. The address that is printed holds a token: without it the page answers nothing. At
    the end the run that is at work saves a checkpoint; the page goes on with it the next time.
    """
    if sys.platform == "win32":
        raise SpecError("stages run on Linux, macOS and WSL2; use atoll ui there")
    from atoll_cli.ui.datasets import Workspace
    from atoll_cli.ui.handlers import Handlers
    from atoll_cli.ui.server import UiServer

    folder = store.resolve()
    handlers = Handlers(Workspace(folder, open_local_store(folder), namespace))
    try:
        server = UiServer(handlers, port)
    except OSError as error:
        raise SpecError(f"port {port} of this machine cannot be used: {error.strerror}; --port names another") from None
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    click.echo(f"{server.guard.address}\nthe folder is {folder}; Ctrl-C ends the page")
    with _opened(folder, server.guard.address) if show else nullcontext():
        ended.wait()
    click.echo("ending; a run at work saves its checkpoint first", err=True)
    server.close()
    suspended = handlers.close()
    if suspended:
        click.echo(f"run {suspended} is suspended; start it from the page to go on", err=True)


@contextmanager
def _opened(folder: Path, address: str) -> Iterator[None]:
    """Opens a browser at the address. The browser reads it from a file that other users cannot read, as every user of
    the machine sees the arguments of a process. The file is not hidden: some packaged browsers open no hidden file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / OPENER
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={address}"><title>Atoll</title>\n')
    try:
        webbrowser.open(file.as_uri())
        yield
    finally:
        file.unlink(missing_ok=True)
