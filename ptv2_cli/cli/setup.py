"""`ptv2 init`, `ptv2 doctor` and `ptv2 schema`: what a user needs before the first run."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.options import JsonOption
from ptv2_cli.errors import EXIT_DEFECT, InputError

if TYPE_CHECKING:
    from ptv2_cli.setup.draft import Answers

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Name from `ptv2 list configs`; default: ask a few questions.",
        autocompletion=complete.configs,
    ),
]


def init(
    name: Name = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="PATH", help="Your data file or folder, to propose answers."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="The file to write.")
    ] = Path("config.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented config.yaml to start from."""
    from ptv2_cli.setup.draft import copied, draft

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


def doctor(json_: JsonOption = False) -> int:
    """Show versions, device and caches, and how to fix problems."""
    from ptv2_cli.setup.doctor import examine

    findings = examine()
    able = all(item.state != "missing" for item in findings)
    if json_:
        console.as_json({"able": able, "findings": [asdict(item) for item in findings]})
        return 0 if able else EXIT_DEFECT
    width = max(len(item.name) for item in findings)
    for item in findings:
        console.say(f"{item.state:7}  {item.name:{width}}  {item.value}", hang=11 + width)
        if item.fix:
            console.say(f"{'':7}  {'':{width}}  -> {item.fix}")
    worse = [item for item in findings if item.state != "ok"]
    console.say()
    if able:
        console.say(f"ptv2 can run here{f', {len(worse)} to look at' if worse else ''}")
        return 0
    console.say("ptv2 cannot run here: fix what is missing first")
    return EXIT_DEFECT


def schema() -> None:
    """Print the JSON Schema of configs, for completion in editors."""
    from ptv2_cli.setup.schema import config_schema

    console.as_json(config_schema())


def _answers(name: str | None, data: Path | None) -> Answers | None:
    """The answers that make the config; None: it is a copy of a shipped config."""
    from ptv2_cli.setup.dialogue import accepted, converse

    if name is not None and data is not None:
        file = shlex.quote(str(data))
        hint = f"ptv2 init {name}, then --set task.data=FOLDER; or ptv2 init --data {file}"
        raise InputError.at("--data", "cannot be combined with NAME, which has its own data", hint)
    if name is not None:
        return None
    if console.can_ask():
        return converse(console.ask, data)
    if data is not None:
        return accepted(data)
    hint = "ptv2 init quickstart, or ptv2 init --data FILE; ptv2 list configs shows all names"
    raise InputError.at("init", "there is no NAME, and no terminal to ask on", hint)


def _writable(output: Path, force: bool) -> None:
    if output.is_dir():
        hint = f"ptv2 init --output {shlex.quote(str(output / 'config.yaml'))}"
        raise InputError.at("--output", f"{output} is a folder", hint)
    if output.exists() and not force:
        hint = "--force overwrites it; --output FILE writes elsewhere"
        raise InputError.at(str(output), "exists already", hint)
    if not output.parent.is_dir():
        hint = f"mkdir -p {shlex.quote(str(output.parent))}"
        raise InputError.at("--output", f"there is no folder {output.parent}", hint)
