"""`ptv2 doctor`: what this machine has for ptv2, and what mends the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ptv2_cli.cli import console
from ptv2_cli.errors import EXIT_DEFECT


def doctor(
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> int:
    """Show versions, device, caches, and what mends the rest."""
    from ptv2_cli.setup.doctor import examine

    found = examine()
    able = all(item.state != "missing" for item in found)
    if json_:
        console.as_json({"able": able, "findings": [asdict(item) for item in found]})
        return 0 if able else EXIT_DEFECT
    width = max(len(item.name) for item in found)
    for item in found:
        console.say(f"{item.state:7}  {item.name:{width}}  {item.value}", hang=11 + width)
        if item.mend:
            console.say(f"{'':7}  {'':{width}}  -> {item.mend}")
    worse = [item for item in found if item.state != "ok"]
    console.say()
    if able:
        console.say(f"ptv2 can run here{f', {len(worse)} to look at' if worse else ''}")
        return 0
    console.say("ptv2 cannot run here: mend what is missing first")
    return EXIT_DEFECT
