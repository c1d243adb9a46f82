"""`ptv2 export` and `ptv2 import`: runs for other programs, and checkpoints of other programs."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.options import (
    DeviceOption,
    OfflineOption,
    OutputOption,
    SetOption,
    ThreadsOption,
    UnsetOption,
    read_config,
    settle,
)


class Target(StrEnum):
    """What a run can be exported to."""

    peft = "peft"
    folded = "folded"
    merged = "merged"


def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Folder of a finished run.", autocompletion=complete.runs
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write, new or empty.")],
    to: Annotated[
        Target,
        typer.Option(
            "--to",
            help="peft: a PEFT adapter; folded: a run without its network; merged: a plain model "
            "with the adapter in its weights.",
        ),
    ],
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
) -> None:
    """Export a run to PEFT, as a plain model, or without its network."""
    settle(offline, threads)
    from ptv2_cli.interop.folded import export_folded
    from ptv2_cli.interop.merged import export_merged
    from ptv2_cli.interop.opened import open_finished
    from ptv2_cli.interop.to_peft import export_peft
    from ptv2_cli.runs.directory import open_run
    from ptv2_cli.threads import use_threads

    use_threads(threads)
    directory = open_run(run)
    if to is Target.peft:
        written = export_peft(open_finished(directory, offline=offline), folder)
    elif to is Target.merged:
        written = export_merged(open_finished(directory, offline=offline), folder)
    else:
        written = export_folded(directory, folder)
    console.say(f"{written.folder}: {', '.join(written.files)}")
    for text in written.notes:
        console.note(text)
    if to is Target.folded:
        _next(written.folder, offline)


class Program(StrEnum):
    """Whose checkpoints can be imported."""

    peft = "peft"
    reference = "p-tuning-v2"


def import_run(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that holds the checkpoint.")
    ],
    program: Annotated[
        Program, typer.Option("--from", help="peft: an adapter; p-tuning-v2: a THUDM checkpoint.")
    ],
    config: Annotated[
        Path,
        typer.Option(
            "--config", metavar="CONFIG", help="Config that names backbone, task and head."
        ),
    ] = Path("config.yaml"),
    sets: SetOption = None,
    unsets: UnsetOption = None,
    output: OutputOption = Path("runs"),
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
) -> None:
    """Import a prefix from PEFT or THUDM/P-tuning-v2, and score it."""
    loaded = read_config(config, sets=sets, unsets=unsets)
    settle(offline, threads)
    from ptv2_cli.backbones.families import shape_of
    from ptv2_cli.backbones.files.locate import locate
    from ptv2_cli.cli.views.summary import percent
    from ptv2_cli.interop.from_peft import read_peft
    from ptv2_cli.interop.from_reference import read_reference
    from ptv2_cli.interop.import_run import import_checkpoint, settings_of
    from ptv2_cli.runs.environment import choose_device
    from ptv2_cli.threads import use_threads

    use_threads(threads)
    read = read_peft if program is Program.peft else read_reference
    chosen = choose_device(device)
    foreign = read(folder)
    located = locate(loaded.config.backbone, offline=offline, weights=False)
    foreign = foreign.suited(shape_of(located.name, located.config).hidden_size)
    fixed = settings_of(loaded, foreign)
    keys = {text.partition("=")[0] for text in fixed}
    left = [key for key in unsets or [] if key not in keys]  # an --unset would win over a --set
    loaded = read_config(config, sets=[*(sets or []), *fixed], unsets=left)
    made = import_checkpoint(foreign, loaded, output, device=chosen, offline=offline)
    for text in made.notes:
        console.note(text)
    for text in made.warnings:
        console.warn(text)
    metric = made.metrics["selection"]["metric"]
    for split, scores in made.metrics["metrics"].items():
        console.say(f"{split}: {metric} {percent(scores.get(metric))}")
    console.say(f"run: {made.directory.path}")
    _next(made.directory.path, offline)


def _next(run: Path, offline: bool) -> None:
    """The command that scores a new run."""
    again = ["ptv2", "eval", str(run), *(["--offline"] if offline else [])]
    console.note(f"next: {shlex.join(again)}")
