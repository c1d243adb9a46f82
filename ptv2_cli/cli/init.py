"""`ptv2 init`: a first config.yaml, from a shipped config, from data, or from a few questions."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.errors import InputError

if TYPE_CHECKING:
    from ptv2_cli.setup.draft import Answers

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="A config of ptv2 list configs; without it a few questions are asked.",
        autocompletion=complete.configs,
    ),
]


def init(
    name: Name = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="A data file or folder of yours to look at."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="The file to write.")
    ] = Path("config.yaml"),
    force: Annotated[
        bool, typer.Option("--force", help="Write over a file that is there.")
    ] = False,
) -> None:
    """Write a commented config.yaml to begin with."""
    from ptv2_cli.setup.draft import draft
    from ptv2_cli.setup.shipped import copied

    _writable(output, force)
    answers = _answers(name, data)
    text = copied(name or "", output) if answers is None else draft(answers, output)
    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(output)
    console.say(f"wrote {output}")
    for problem in answers.bad if answers else ():
        console.warn(str(problem))
    if answers and answers.note:
        console.warn(answers.note)
    file = shlex.quote(str(output))
    console.note(f"next: ptv2 check {file} --show 3, then ptv2 train {file}")


def _answers(name: str | None, data: Path | None) -> Answers | None:
    """What the config depends on; None: it is the copy of one by its name."""
    from ptv2_cli.setup.dialogue import accepted, converse

    if name is not None and data is not None:
        file = shlex.quote(str(data))
        hint = f"ptv2 init {name}, then --set task.data=FOLDER; or ptv2 init --data {file}"
        raise InputError.at("--data", "stands beside NAME, whose data is its own", hint)
    if name is not None:
        return None
    if console.can_ask():
        return converse(console.ask, data)
    if data is not None:
        return accepted(data)
    hint = "ptv2 init quickstart, or ptv2 init --data FILE; ptv2 list configs shows all names"
    raise InputError.at("init", "no NAME, and no terminal to ask on", hint)


def _writable(output: Path, force: bool) -> None:
    if output.is_dir():
        hint = f"ptv2 init --output {shlex.quote(str(output / 'config.yaml'))}"
        raise InputError.at("--output", f"{output} is a folder", hint)
    if output.exists() and not force:
        hint = "--force writes over it; --output FILE writes elsewhere"
        raise InputError.at(str(output), "is there already", hint)
    if not output.parent.is_dir():
        hint = f"mkdir -p {shlex.quote(str(output.parent))}"
        raise InputError.at("--output", f"there is no folder {output.parent}", hint)
