"""The benchmark of many rows: its rows differ, and both commands read them in every format."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tiny

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def million(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script as a module, with a few sentences."""
    monkeypatch.syspath_prepend(str(FOLDER))
    (tmp_path / "sst2").mkdir()
    text = " ".join(tiny.WORDS[:6])
    lines = (f"{text}\t{at % 2}\n" for at in range(9))
    (tmp_path / "sst2" / "train.tsv").write_text("".join(["sentence\tlabel\n", *lines]))
    monkeypatch.setenv("PTV2_DATA", str(tmp_path))
    return importlib.import_module("million")


def test_no_two_rows_are_equal(million: Any) -> None:
    rows = [*islice(million.sentences(0), 100), *islice(million.sentences(100), 100)]
    assert len({text for text, _ in rows}) == 200
    assert {label for _, label in rows} == {"positive", "negative"}


@pytest.mark.parametrize("layout", ["csv", "conll"])
def test_it_runs(
    million: Any,
    layout: str,
    folder_of: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["million.py", "--rows", "64", "--format", layout]
    monkeypatch.setattr("sys.argv", [*words, "--backbone", str(folder_of("bert"))])
    assert million.main() == 0
    table = capsys.readouterr().out
    assert "64 rows" in table
    for command in ("check", "train --dry-run"):
        assert re.search(rf"\| `{command}` \| now \| [\d.]+ \| \d+ \|", table)
