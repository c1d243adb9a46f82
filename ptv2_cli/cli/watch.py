"""`ptv2 watch`: the page of `ptv2 report --html`, renewed while runs go on."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import typer

from ptv2_cli.cli import complete, console

DEFAULT = Path("runs")


def watch(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder of runs; default: runs/, which may not exist yet.",
            show_default=False,
            autocompletion=complete.runs,
        ),
    ] = DEFAULT,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free port.")
    ] = 8421,
) -> None:
    """Show a folder's runs in the browser while they train."""
    from ptv2_cli.errors import InputError
    from ptv2_cli.report.html.page import require_jinja

    require_jinja("ptv2 watch")
    if folder != DEFAULT and not folder.is_dir():
        hint = "name the folder that runs are written to: its --output"
        raise InputError.at(str(folder), "there is no such folder", hint)
    from ptv2_cli.report.html.live_page import LivePage
    from ptv2_cli.report.html.server import PageServer

    try:
        server = PageServer(LivePage(folder), port)
    except OSError as error:
        used = error.errno == errno.EADDRINUSE
        what = "is in use by another program" if used else f"cannot be used: {error.strerror}"
        hint = "--port 0 takes a free one"
        raise InputError.at("--port", f"port {port} {what}", hint) from error
    with server:
        console.say(f"{server.address} shows {folder}; Ctrl-C stops")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.note("stopped")
