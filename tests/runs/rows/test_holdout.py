"""A holdout: seeded, stratified, and without a text that train has too."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny

from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.data.rows import Row, Split
from ptv2_cli.errors import DataError
from ptv2_cli.runs.rows.duplicate_text import overlap_warnings
from ptv2_cli.runs.rows.row_selection import DRAWN, hold_out
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task

PASSAGE = "Passage {} is a text that is long enough to be known again wherever it stands."
LABELS = ["entailment", "contradiction", "neutral"]


def split(rows: Sequence[Row]) -> Split:
    return Split(list(rows), "s")


def cb(count: int, label: Callable[[int], str]) -> list[Row]:
    return [
        {"number": at, "premise": f"p {at}", "hypothesis": "h", "label": label(at)}
        for at in range(count)
    ]


def leaks(task: Task, kept: Split, held: Split) -> list[str]:
    return overlap_warnings(task, "holdout", kept.rows, held.rows)


def test_holdout_is_stratified_seeded_and_disjoint() -> None:
    task = load_task("superglue/cb")
    every = cb(100, lambda at: LABELS[0 if at < 60 else 1 if at < 90 else 2])
    shares = dict(zip(LABELS, (12, 6, 2), strict=True))
    for seed in (13, 12, 11):
        kept, held = hold_out(task, split(every), 0.2, seed)
        assert Counter(row["label"] for row in held.rows) == shares
    numbers = [row["number"] for row in (*kept.rows, *held.rows)]
    assert sorted(numbers) == list(range(100))
    assert [row["number"] for row in held.rows] == sorted(row["number"] for row in held.rows)
    assert hold_out(task, split(every), 0.2, 11)[1].rows == held.rows
    assert hold_out(task, split(every), 0.2, 12)[1].rows != held.rows


def test_questions_of_one_context_stay_together() -> None:
    task = load_task("qa/squad")
    every = [
        {"question": f"q {at}", "context": f"context {at // 6}", "answers": [{"text": "x"}]}
        for at in range(60)
    ]
    kept, held = hold_out(task, split(every), 0.2, 11)
    contexts = [{row["context"] for row in side.rows} for side in (kept, held)]
    assert not contexts[0] & contexts[1]
    assert len(held.rows) == 12


def test_a_train_set_too_small_to_hold_out() -> None:
    task = load_task("qa/squad")
    every = [
        {"question": f"q {at}", "context": "one", "answers": [{"text": "x"}]} for at in range(6)
    ]
    with pytest.raises(DataError, match="leaves one side empty"):
        hold_out(task, split(every), 0.2, 11)


def _repeated(rows: list[Row], columns: Sequence[str], seed: int = 3) -> list[Row]:
    """Rows of which every third is there again, written with other case and spaces."""
    again = [{**row, **{name: f" {row[name].upper()} " for name in columns}} for row in rows[::3]]
    return random.Random(seed).sample(rows + again, len(rows) + len(again))


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        (
            "text/classification",
            {"labels": ["a", "b"]},
            [{"text": f"t {at}", "label": "ab"[at % 2]} for at in range(90)],
        ),
        (
            "text/regression",
            {"mean": 0.0, "deviation": 1.0},
            [{"text": f"t {at}", "label": at / 7} for at in range(90)],
        ),
        (
            "text/choice",
            {"label_is": "index"},
            [{"text": f"t {at}", "choices": ["x", "y"], "label": at % 2} for at in range(90)],
        ),
        (
            "superglue/copa",
            {},
            [
                {"premise": f"t {at}", "question": "cause", "choice1": "x", "choice2": "y",
                 "label": at % 2}
                for at in range(90)
            ],
        ),
        (
            "superglue/wic",
            {},
            [
                {"sentence1": f"t {at}", "sentence2": "u", "word": "w", "label": "true"}
                for at in range(90)
            ],
        ),
        (
            "qa/squad",
            {},
            [{"question": "q", "context": f"t {at}", "answers": []} for at in range(90)],
        ),
    ],
)  # fmt: skip
def test_equal_rows_stand_on_one_side(
    name: str, options: dict[str, Any], rows: list[Row], seed: int
) -> None:
    task = load_task(name, options)
    text = next(key for key, value in rows[0].items() if str(value).startswith("t "))
    every = _repeated(rows, [text])
    kept, held = hold_out(task, split(every), 0.2, seed)
    assert len(held.rows) == 24
    assert leaks(task, kept, held) == []


def test_equal_sentences_stand_on_one_side() -> None:
    task = load_task("ner/conll2003")
    draws = random.Random(4)
    every = [{"tokens": [str(draws.randrange(40)), "sat"], "tags": ["O", "O"]} for _ in range(200)]
    kept, held = hold_out(task, split(every), 0.1, 11)
    assert len(held.rows) == 20
    sides = [{tuple(row["tokens"]) for row in side.rows} for side in (kept, held)]
    assert not sides[0] & sides[1]


def test_a_long_text_of_one_column_stays_together_and_labels_keep_their_shares() -> None:
    task = load_task("superglue/boolq")
    draws = random.Random(5)
    every = [
        {
            "question": f"question {at}",
            "passage": PASSAGE.format(draws.randrange(150)),
            "label": "true" if at % 3 else "false",
        }
        for at in range(300)
    ]
    for seed in (11, 12, 13):
        kept, held = hold_out(task, split(every), 0.1, seed)
        assert Counter(row["label"] for row in held.rows) == {"true": 20, "false": 10}
        sides = [{row["passage"] for row in side.rows} for side in (kept, held)]
        assert not sides[0] & sides[1]


def test_an_instruction_that_all_rows_have_ties_nothing_together() -> None:
    task = load_task("superglue/boolq")
    every = [
        {"question": f"q {at}", "passage": PASSAGE.format(at % 3), "label": "true"}
        for at in range(99)
    ]
    _, held = hold_out(task, split(every), 0.1, 11)
    assert len(held.rows) == 10


def test_long_texts_that_tie_all_rows_together_do_not_count() -> None:
    """A chain: every row shares one column with the row before, the other with the next."""
    task = load_task("superglue/rte")
    every = [
        {
            "premise": PASSAGE.format(f"p{(at + 1) // 2}"),
            "hypothesis": PASSAGE.format(f"h{at // 2}"),
            "label": ("entailment", "not_entailment")[at % 2],
        }
        for at in range(100)
    ]
    kept, held = hold_out(task, split(every), 0.1, 11)
    assert len(held.rows) == 10
    assert "share a long text with a train row" in leaks(task, kept, held)[0]


def test_no_label_leaves_train() -> None:
    task = load_task("superglue/cb")
    every = cb(40, lambda at: LABELS[0 if at < 38 else at - 37])
    for seed in range(6):
        kept, held = hold_out(task, split(every), 0.5, seed)
        assert {row["label"] for row in kept.rows} == set(LABELS)
        assert len(held.rows) == 19


def test_many_labels_of_few_rows_each() -> None:
    labels = [f"l{at}" for at in range(50)]
    task = load_task("text/classification", {"labels": labels})
    every = [{"text": f"t {at}", "label": labels[at % 50]} for at in range(200)]
    assert len(hold_out(task, split(every), 0.1, 11)[1].rows) == 20


# Runs with a holdout that an earlier version drew in another way

HOLDOUT = "selection={split: holdout, fraction: 0.25}"


@pytest.fixture
def config(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    data = tiny.write_rte(tmp_path / "rte", train=40)
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)


def test_only_fingerprints_of_runs_with_a_holdout_know_how_it_is_drawn(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def marks() -> tuple[str, str]:
        plain, held = (tiny.prepared(config, tmp_path, sets) for sets in ([], [HOLDOUT]))
        return plain.fingerprint, held.fingerprint

    before = marks()
    monkeypatch.setattr("ptv2_cli.runs.resolved_run.DRAWN", DRAWN + 1)
    after = marks()
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_holdout_that_was_drawn_otherwise_is_not_scored_again(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session, metrics = tiny.trained(
        config, tmp_path / "runs", HOLDOUT, "report=[holdout]", "train.epochs=1"
    )
    directory = session.resolved_run.directory
    assert metrics["data"]["holdout"]["drawn"] == DRAWN
    assert ptv2(["eval", str(directory.path)]) == 0
    assert "holdout accuracy" in capsys.readouterr().out
    del metrics["data"]["holdout"]["drawn"]  # as earlier versions wrote it
    directory.metrics.write_text(json.dumps(metrics))
    assert ptv2(["eval", str(directory.path)]) == 2
    assert "its holdout was drawn by an earlier version" in capsys.readouterr().err
    assert ptv2(["eval", str(directory.path), "--split", "validation"]) == 0
