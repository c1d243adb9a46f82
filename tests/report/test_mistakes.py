"""The rows that a run got wrong: which, in what order, and which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made import write

from ptv2_cli.errors import InputError, RunError
from ptv2_cli.report.compare import open_finished
from ptv2_cli.report.mistakes import confusion, in_cell, mistakes
from ptv2_cli.report.predictions import RunPredictions, predicted

NAMES = ("entailment", "contradiction", "neutral")


def found(folder: Path, lines: Sequence[dict[str, Any]], **made: Any) -> RunPredictions:
    run = open_finished(write(folder, lines=lines, rows=len(lines), **made))
    return predicted(run, "validation")


def label(gold: str, *shares: float) -> dict[str, Any]:
    """A line of CB with these probabilities."""
    chances = dict(zip(NAMES, shares, strict=True))
    best = max(NAMES, key=chances.__getitem__)
    return {"premise": "p", "label": best, "probabilities": chances, "gold": gold}


def labels(folder: Path) -> RunPredictions:
    return found(
        folder,
        [
            label("entailment", 0.5, 0.4, 0.1),
            label("neutral", 0.1, 0.5, 0.4),
            label("neutral", 0.1, 0.6, 0.3),
            label("entailment", 0.3, 0.35, 0.35),
            label("contradiction", 0.1, 0.8, 0.1),
            label("neutral", 0.55, 0.4, 0.05),
        ],
    )


def test_labels_by_what_the_right_one_got_or_by_confidence(tmp_path: Path) -> None:
    read = labels(tmp_path)
    assert [one.number for one in mistakes(read)] == [6, 3, 4, 2]
    assert [one.number for one in mistakes(read, "confidence")] == [3, 6, 2, 4]
    assert [one.number for one in mistakes(read, "row")] == [2, 3, 4, 6]
    first = mistakes(read)[0]
    assert (first.gold, first.predicted, first.confidence) == ("neutral", "entailment", 0.55)
    assert first.row == {"premise": "p"}


def test_one_cell_of_the_matrix(tmp_path: Path) -> None:
    read = labels(tmp_path)
    taken = in_cell(read, mistakes(read), ("neutral", "contradiction"))
    assert [one.number for one in taken] == [3, 2]
    assert confusion(read) == {
        "entailment": {"entailment": 1, "contradiction": 1, "neutral": 0},
        "contradiction": {"entailment": 0, "contradiction": 1, "neutral": 0},
        "neutral": {"entailment": 1, "contradiction": 2, "neutral": 0},
    }
    with pytest.raises(InputError, match="no class 'maybe'"):
        in_cell(read, [], ("maybe", "neutral"))
    with pytest.raises(InputError, match="neutral for neutral is right"):
        in_cell(read, [], ("neutral", "neutral"))


def test_choices(tmp_path: Path) -> None:
    task = {"task": "text/choice", "task__choices": ["choices"], "task__label_is": "index"}
    line = {"text": "x", "choices": ["a", "b"], "probabilities": {"0": 0.1, "1": 0.9}, "label": 1}
    read = found(tmp_path, [{**line, "gold": 0}, {**line, "gold": 1}], **task)
    (one,) = mistakes(read)
    assert (one.gold, one.predicted, one.confidence, one.cells) == (0, 1, 0.9, (("0", "1"),))
    assert confusion(read) == {"0": {"0": 0, "1": 1}, "1": {"0": 0, "1": 1}}


def sentence(gold: str, guess: str, *sure: tuple[str, int, int, float]) -> dict[str, Any]:
    return {
        "tokens": ["a", "b", "c"],
        "tags": guess.split(),
        "entities": [
            {"type": kind, "start": start, "end": end, "text": "x", "probability": chance}
            for kind, start, end, chance in sure
        ],
        "gold": gold.split(),
    }


def test_sentences_with_wrong_entities(tmp_path: Path) -> None:
    lines = [
        sentence("B-PER O O", "B-PER O O", ("PER", 0, 1, 0.9)),
        sentence("B-PER I-PER O", "B-LOC O O", ("LOC", 0, 1, 0.8)),
        sentence("O O B-ORG", "B-PER O O", ("PER", 0, 1, 0.6)),
        sentence("B-PER I-PER O", "O B-PER O", ("PER", 1, 2, 0.7)),
    ]
    read = found(tmp_path, lines, task="ner/conll2003")
    assert [one.number for one in mistakes(read)] == [3, 2, 4]
    assert [one.number for one in mistakes(read, "confidence")] == [2, 4, 3]
    assert mistakes(read)[0].cells == (("ORG", "O"), ("O", "PER"))
    assert [one.number for one in in_cell(read, mistakes(read), ("PER", "LOC"))] == [2]
    # The type is right, the words are not.
    assert [one.number for one in in_cell(read, mistakes(read), ("PER", "PER"))] == [4]
    counts = confusion(read)
    assert list(counts)[-1] == "O"
    assert (counts["PER"]["PER"], counts["PER"]["LOC"], counts["ORG"]["O"]) == (2, 1, 1)


def test_answers_that_match_none(tmp_path: Path) -> None:
    lines = [
        {"id": str(at), "answer": guess, "probability": sure, "nbest": [], "gold": gold}
        for at, (guess, sure, gold) in enumerate(
            [
                ("the cat", 0.9, ["cat"]),
                ("red", 0.5, ["a red dog"]),
                ("mat", 0.2, ["cat", "dog"]),
                ("x", 0.1, []),
            ]
        )
    ]
    read = found(tmp_path, lines, task="qa/squad_v2", selection__metric="f1")
    assert [one.number for one in mistakes(read)] == [3, 4, 2]
    assert [one.number for one in mistakes(read, "confidence")] == [2, 3, 4]
    assert mistakes(read)[-1].size == pytest.approx(1 - 2 / 3)
    with pytest.raises(InputError, match="are no classes"):
        confusion(read)


def test_numbers_by_their_difference(tmp_path: Path) -> None:
    options = {"text": ["text"], "label": "label", "mean": 2.5, "deviation": 1.0}
    task = {
        "task": "text/regression",
        "selection__metric": "pearson",
        **{f"task__{key}": value for key, value in options.items()},
    }
    lines = [
        {"text": "x", "prediction": guess, "label": 2.0, "gold": 2.0} for guess in (2.5, 0.0, 2.0)
    ]
    read = found(tmp_path, lines, **task)
    assert [(one.number, one.size) for one in mistakes(read)] == [(2, 2.0), (1, 0.5)]
    with pytest.raises(InputError, match="a predicted number has no confidence"):
        mistakes(read, "confidence")


def test_damaged_predictions(tmp_path: Path) -> None:
    line = {"premise": "p", "label": "no class", "gold": "neutral"}
    read = found(tmp_path, [line])
    with pytest.raises(RunError, match="holds no predictions of a ptv2 run"):
        mistakes(read)
