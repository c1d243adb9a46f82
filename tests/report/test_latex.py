"""The table of a paper: it compiles, and bold, underline, spread and daggers are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from latex_check import tables
from made import write
from test_baseline import made

from ptv2_cli.report.baseline import against
from ptv2_cli.report.build import build_report
from ptv2_cli.report.latex import escaped, latex, ranks
from ptv2_cli.report.runs import find_runs

HOSTILE = r"a&b%c$d#e_f{g}h~i^j\k<l>m|n[o]p*"


def text_of(folder: Path, baseline: str | None = None, **asked: Any) -> str:
    report = build_report(find_runs([folder]), **asked)
    return latex(report, None if baseline is None else against(report, baseline))


def test_every_special_character_is_escaped() -> None:
    assert escaped(HOSTILE) == (
        r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k"
        r"\textless{}l\textgreater{}m\textbar{}n{[}o{]}p{*}"
    )
    assert escaped("a\nb\tc\x00d") == "a b c d"


def test_the_reader_refuses_what_does_not_compile() -> None:
    good = "\\begin{tabular}{lr}\n\\toprule\na & 1 \\\\\n\\bottomrule\n\\end{tabular}"
    assert tables(good) == [[["a", "1"]]]
    for old, new in (
        ("a &", "a & b &"), ("a &", "a_b &"), ("a &", "{a &"), ("a &", "[a] &"),
        ("1 ", "1\\% \\foo "), ("\\end{tabular}", ""), ("1", "$1"), ("1 ", "1% "),
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            tables(good.replace(old, new))


def test_best_second_spread_and_daggers(tmp_path: Path) -> None:
    for seed, right in ((11, 36), (12, 38)):
        made(tmp_path, right, seed=seed)
    for seed in (11, 12):
        made(tmp_path, 10 + seed % 2, seed=seed, method="head_only", prompt_len=None)
        made(tmp_path, 30 + seed % 2, seed=seed, method="finetune", prompt_len=None)
    text = text_of(tmp_path, "finetune")
    (rows,) = tables(text)
    assert rows[0] == ["method", "prompt", "cb", "trainable"]
    assert rows[2] == [
        r"ptuning\_v2", "20", r"\textbf{92.5}\,{\scriptsize$\pm$3.5}", "0.42"
    ]  # fmt: skip
    assert rows[3][2] == r"\underline{76.2}\,{\scriptsize$\pm$1.8}"
    assert rows[4][2] == (r"26.2\textsuperscript{\textdaggerdbl}\,{\scriptsize$\pm$1.8}")
    assert rows[5][0] == "majority baseline"
    assert "over 2 seeds" in text
    assert "Holm" in text


def test_equal_figures_are_marked_equally() -> None:
    assert ranks([0.9001, 0.9004, 0.8, 0.7, None]) == [1, 1, 2, None, None]
    assert ranks([0.9, 0.8, 0.7], lower=True) == [None, 2, 1]


def test_one_row_is_not_called_the_best(tmp_path: Path) -> None:
    write(tmp_path)
    text = text_of(tmp_path)
    assert "textbf" not in text
    assert "Bold" not in text
    tables(text)


def test_backbones_are_blocks(tmp_path: Path) -> None:
    write(tmp_path)
    from made import content

    metrics = content(seed=12)
    metrics["backbone"]["name"] = "other"
    write(tmp_path, metrics)
    text = text_of(tmp_path)
    assert text.count("\\midrule") == 3  # below the headings, between, and above the baseline
    tables(text)


def test_hostile_names_compile(tmp_path: Path) -> None:
    write(tmp_path, task=f"own/{HOSTILE}", train__note=HOSTILE)
    write(tmp_path, task=f"own/{HOSTILE}", train__note="[x]", score=0.7)
    write(tmp_path, task="superglue/rte", train__note="* \\\\ y", score=None, status="diverged")
    (rows,) = tables(text_of(tmp_path))
    assert any(escaped(HOSTILE) in cell for cell in rows[0])


def test_all_settings_are_a_table_of_their_own(tmp_path: Path) -> None:
    for task in ("superglue/cb", "superglue/rte"):
        made(tmp_path, 20, task=task, method="finetune", prompt_len=None)
        made(tmp_path, 36, task=task)
    first, second = tables(text_of(tmp_path, "finetune"))
    assert first[0][-2:] == ["average", "trainable"]
    assert second[1][-5:] == ["2", "2", "+40.0", "0.500", "+1.00"]
