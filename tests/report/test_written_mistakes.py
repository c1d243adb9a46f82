"""What `ptv2 errors` and `ptv2 compare` say of texts that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made import write

from ptv2_cli.cli.app import run as run_command
from ptv2_cli.errors import InputError
from ptv2_cli.report.compare import compare, open_finished
from ptv2_cli.report.mistakes import confusion, mistakes
from ptv2_cli.report.predictions import predicted


def line(text: str, gold: Any, sure: float | None = None) -> dict[str, Any]:
    extra = {} if sure is None else {"log_probability": sure}
    return {"input": "some text", "written": {"text": text, **extra}, "gold": gold}


LINES = [
    line("the cat sat", "A cat sat.", -1.0),
    line("a dog ran off", ["the dog ran", "dogs run"], -3.0),
    line("nothing", "a dog", -2.0),
    line("no thing", "a mat", -0.5),
]
OTHERS = [LINES[0], line("the dog ran", ["the dog ran", "dogs run"], -1.0), *LINES[2:]]


def folder(path: Path, lines: list[dict[str, Any]], **made: Any) -> Path:
    return write(path, lines=lines, task="text/generation", rows=len(lines), **made)


def test_the_worst_first_then_the_likeliest(tmp_path: Path) -> None:
    read = predicted(open_finished(folder(tmp_path / "a", LINES)), "validation")
    found = mistakes(read)
    assert [one.number for one in found] == [4, 3, 2]
    assert [one.number for one in mistakes(read, "confidence")] == [4, 3, 2]
    assert (found[2].gold, found[2].predicted) == (["the dog ran", "dogs run"], "a dog ran off")
    assert found[2].size == pytest.approx(1 - 4 / 5)
    assert found[2].confidence == -3.0
    with pytest.raises(InputError, match="are no classes"):
        confusion(read)


def test_rows_are_wrong_as_exact_match_counts_them(tmp_path: Path) -> None:
    # SQuAD's rules take `A` for an article, and a Chinese text for one word.
    lines = [line("the", "A"), line("a", "A"), line("餐厅在河边", "餐厅位于河边")]
    read = predicted(open_finished(folder(tmp_path / "a", lines[:2])), "validation")
    assert [one.number for one in mistakes(read)] == [1]
    read = predicted(open_finished(folder(tmp_path / "b", lines[2:])), "validation")
    assert mistakes(read)[0].size < 1


def test_texts_of_beams_have_no_confidence(tmp_path: Path) -> None:
    lines = [*LINES[1:3], line("no", "a sun")]
    read = predicted(open_finished(folder(tmp_path / "a", lines)), "validation")
    assert [one.number for one in mistakes(read, "confidence")] == [2, 1, 3]


def test_gold_and_text_stand_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["errors", str(folder(tmp_path / "a", LINES)), "--sort", "row"]) == 0
    out = capsys.readouterr().out
    assert "3 of 4 rows are wrong" in out
    assert (
        "row 2: F1 80.0, log probability -3.00\n"
        "  gold: the dog ran | dogs run\n"
        "  written: a dog ran off\n"
    ) in out


def test_runs_are_compared_row_by_row(tmp_path: Path) -> None:
    a = open_finished(folder(tmp_path / "a", LINES, seed=1))
    b = open_finished(folder(tmp_path / "b", OTHERS, seed=2))
    found = compare([a], [b])
    assert found.scores["exact_match"].difference == pytest.approx(1 / 4)
    assert found.labels is None
    (row,) = found.disagreements
    assert (row.number, row.better, row.gold) == (2, "b", ["the dog ran", "dogs run"])
