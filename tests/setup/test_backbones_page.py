"""The support table: in the docs as it is, on a terminal of 80 columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptv2_cli.backbones.families import COLUMNS, FAMILIES, REFUSED, support_rows
from ptv2_cli.cli import console
from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.setup.pages import with_tables

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"


def test_the_page_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run scripts/backbones_page.py"
    assert with_tables(text.replace("| gpt2 |", "| gpt3 |")) == text
    assert all(f"| {name} |" in text for name in (*FAMILIES, *REFUSED))


def test_a_page_without_a_place_for_a_table() -> None:
    with pytest.raises(ValueError, match="no comments for the table 'support'"):
        with_tables("# Backbones\n")


def test_the_list_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(console, "in_terminal", lambda stream: True)
    assert ptv2(["list", "backbones"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == " ".join(COLUMNS).split()
    table = lines[1 : 1 + len(FAMILIES)]  # a row each, none broken
    for row, line in zip(support_rows(), table, strict=True):
        assert line.split() == " ".join(row).split()
    text = " ".join(" ".join(lines).split())
    assert all(f"{name} {reason}" in text for name, reason in REFUSED.items())
    assert "big_bird full attention in place of the sparse form" in text
