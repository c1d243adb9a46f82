"""The pages under docs/: in the navigation, with commands that exist and links that lead."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from ptv2_cli.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def commands(page: Path) -> list[list[str]]:
    """The `ptv2 ...` lines of the page's blocks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.M | re.S)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [shlex.split(line, comments=True) for line in joined if line.startswith("ptv2 ")]


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = [target for entry in nav for target in entry.values()]
    assert sorted(named) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_their_options_exist(page: Path) -> None:
    top = {"--install-completion", "--show-completion", "--version", "--help"}
    for words in commands(page):
        if words[1] in top:
            continue
        assert words[1] in COMMANDS, words
        known = {name for parameter in COMMANDS[words[1]].params for name in parameter.opts}
        given = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
        assert given <= known | {"--help", "--debug"}, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## How a run works")[2]
    named = re.findall(r"`([\w/]+(?:\.py|/))(?=[`:])", text)
    folders = (ROOT, ROOT / "ptv2_cli")
    assert len(named) > 40
    assert not [name for name in named if not any((folder / name).exists() for folder in folders)]


def test_the_pages_have_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) >= 10
