"""`ptv2 export`: a finished run for PEFT, or without its reparameterization."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.options import OfflineOption, settle


class Target(StrEnum):
    """What a run can be exported to."""

    peft = "peft"
    folded = "folded"


def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Directory of a finished run.", autocompletion=complete.runs
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write, new or empty.")],
    to: Annotated[
        Target,
        typer.Option("--to", help="A PEFT adapter, or a run without its reparameterization."),
    ],
    offline: OfflineOption = False,
) -> None:
    """Write a run as a PEFT adapter, or with its MLP folded away."""
    settle(offline)
    from ptv2_cli.interop.folded import export_folded
    from ptv2_cli.interop.opened import open_finished
    from ptv2_cli.interop.to_peft import export_peft
    from ptv2_cli.runs.directory import open_run

    directory = open_run(run)
    if to is Target.peft:
        written = export_peft(open_finished(directory, offline=offline), folder)
    else:
        written = export_folded(directory, folder)
    console.say(f"{written.folder}: {', '.join(written.files)}")
    for text in written.notes:
        console.note(text)
    if to is Target.folded:
        again = ["ptv2", "eval", str(written.folder), *(["--offline"] if offline else [])]
        console.note(f"next: {shlex.join(again)}")
