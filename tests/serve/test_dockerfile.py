"""The Dockerfile: what it copies is there and not ignored, what it starts exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import typer

from ptv2_cli.cli.app import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
INSTRUCTIONS = [
    line.partition(" ")[::2] for line in TEXT.splitlines() if line and not line.startswith("#")
]


def values(name: str) -> list[str]:
    """What follows an instruction, each time."""
    return [value for word, value in INSTRUCTIONS if word == name]


def test_what_it_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [path for value in values("COPY") for path in value.split()[:-1]]
    assert {"pyproject.toml", "ptv2_cli", "configs"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in ignored


def test_it_copies_what_the_package_is_made_of() -> None:
    """Else the package cannot be built in the image."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[tool.hatch.build.targets.wheel.force-include]\n")[2]
    included = re.findall(r'^"([^"]+)" =', section.partition("\n[")[0], flags=re.M)
    copied = [path for value in values("COPY") for path in value.split()[:-1]]
    assert included
    assert [path for path in included if not any(path.startswith(one) for one in copied)] == []


def test_it_serves_as_a_user_without_rights() -> None:
    (started,) = map(json.loads, values("ENTRYPOINT"))
    assert started[:2] == ["ptv2", "serve"]
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in started if word.startswith("--")} <= known
    assert values("USER") == ["ptv2"]
    names = [name for name, _ in INSTRUCTIONS]
    assert "RUN" not in names[names.index("USER") :]
    (port,) = values("EXPOSE")
    assert started[-1] == port
    assert f"127.0.0.1:{port}/health" in values("HEALTHCHECK")[0]
