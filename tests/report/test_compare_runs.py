"""Two runs: what differs between them, on which rows, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made import write

from ptv2_cli.errors import InputError, Ptv2Error, RunError
from ptv2_cli.report.compare import Comparison, Difference, compare, open_finished
from ptv2_cli.report.runs import ReportedRun

NAMES = {"e": "entailment", "c": "contradiction", "n": "neutral"}


def labels(gold: str, guess: str) -> list[dict[str, Any]]:
    """Lines of CB from letters."""
    return [
        {"premise": f"p{at}", "idx": at, "label": NAMES[b], "probabilities": {}, "gold": NAMES[a]}
        for at, (a, b) in enumerate(zip(gold, guess, strict=True))
    ]


def compared(
    folder: Path,
    a: Sequence[dict[str, Any]],
    b: Sequence[dict[str, Any]],
    first: dict[str, Any] | None = None,
    second: dict[str, Any] | None = None,
    **asked: Any,
) -> Comparison:
    rows = {"rows": len(a)}
    one = write(folder / "a", lines=a, **{**rows, **(first or {})})
    other = write(folder / "b", lines=b, **{**rows, **(second or {})})
    return compare([open_finished(one)], [open_finished(other)], **asked)


GOLD, A, B = "eeeecccnn", "eeecceecn", "eeeecccce"
"""A is right on rows 1-3, 5 and 9, B on 1-7."""


def test_labels(tmp_path: Path) -> None:
    found = compared(tmp_path, labels(GOLD, A), labels(GOLD, B))
    score = found.scores["accuracy"]
    assert (found.rows, found.metric, found.split) == (9, "accuracy", "validation")
    assert (score.a, score.b) == (pytest.approx(5 / 9), pytest.approx(7 / 9))
    assert found.labels is not None
    assert (found.labels.only_a, found.labels.only_b) == (1, 3)
    # n = 4, k = 1: 2 (1 + 4) / 16.
    assert found.tests["accuracy"].p == found.labels.p == pytest.approx(0.625)
    assert found.tests["accuracy"].name == "mcnemar"
    assert found.tests["f1_macro"].name == "bootstrap"
    assert found.tests["f1_macro"].p == found.scores["f1_macro"].p
    assert [(row.number, row.better) for row in found.disagreements] == [
        (4, "b"), (6, "b"), (7, "b"), (9, "a"),
    ]  # fmt: skip
    assert found.disagreements[0].row == {"premise": "p3", "idx": 3}


def test_scores_are_those_of_the_task(tmp_path: Path) -> None:
    from sklearn.metrics import f1_score

    found = compared(tmp_path, labels(GOLD, A), labels(GOLD, B))
    assert found.scores["f1_macro"].a == pytest.approx(f1_score([*GOLD], [*A], average="macro"))


def test_tags(tmp_path: Path) -> None:
    def lines(*guesses: str) -> list[dict[str, Any]]:
        golds = ("B-PER O", "O B-LOC", "O O")
        return [
            {"tokens": ["x", "y"], "tags": guess.split(), "entities": [], "gold": gold.split()}
            for guess, gold in zip(guesses, golds, strict=True)
        ]

    task = {"task": "ner/conll2003"}
    first = lines("B-PER O", "O O", "B-LOC O")
    second = lines("B-PER O", "O B-LOC", "O O")
    found = compared(tmp_path, first, second, task, task)
    assert found.labels is None
    assert found.scores["f1"].a == pytest.approx(0.5)
    assert found.scores["f1"].b == 1.0
    # Row 3 has no entity: its F1 is 0 for both, but one has its tags right.
    assert [(row.number, row.better) for row in found.disagreements] == [(2, "b"), (3, "b")]


def test_answers(tmp_path: Path) -> None:
    def lines(*guesses: str) -> list[dict[str, Any]]:
        return [
            {"id": str(at), "answers": [], "answer": guess, "start": 0, "nbest": [], "gold": gold}
            for at, (guess, gold) in enumerate(
                zip(guesses, (["the cat"], ["a red dog", "dog"]), strict=True)
            )
        ]

    task = {"task": "qa/squad", "selection__metric": "f1"}
    found = compared(tmp_path, lines("cat", "red"), lines("mat", "dog"), task, task)
    score = found.scores["f1"]
    # "red" against "red dog": 2 * 1 / 3; "dog" is an accepted answer.
    assert (score.a, score.b) == (pytest.approx((1 + 2 / 3) / 2), pytest.approx(0.5))
    assert [row.better for row in found.disagreements] == ["a", "b"]
    assert found.labels is None


def test_numbers(tmp_path: Path) -> None:
    def lines(*guesses: float) -> list[dict[str, Any]]:
        golds = (1.0, 2.0, 3.0, 4.0)
        return [
            {"text": "x", "prediction": guess, "label": gold, "gold": gold}
            for guess, gold in zip(guesses, golds, strict=True)
        ]

    options = {"text": ["text"], "label": "label", "mean": 2.5, "deviation": 1.0}
    task = {
        "task": "text/regression",
        "selection__metric": "pearson",
        **{f"task__{key}": value for key, value in options.items()},
    }
    found = compared(tmp_path, lines(4, 3, 2, 1), lines(1, 2, 3, 4.5), task, task)
    assert found.scores["pearson"].a == pytest.approx(-1.0)
    assert found.scores["spearman"].b == pytest.approx(1.0)
    assert found.labels is None
    assert [(row.number, row.better) for row in found.disagreements] == [
        (1, "b"), (2, "b"), (3, "b"), (4, "b"),
    ]  # fmt: skip


def test_choices(tmp_path: Path) -> None:
    def lines(*guesses: int) -> list[dict[str, Any]]:
        return [
            {"text": str(at), "choices": ["a", "b", "c", "d"], "label": guess, "gold": 0}
            for at, guess in enumerate(guesses)
        ]

    task = {"task": "text/choice", "task__choices": ["choices"], "task__label_is": "index"}
    found = compared(tmp_path, lines(0, 1, 3, 0), lines(0, 3, 1, 2), task, task)
    assert (found.scores["accuracy"].a, found.scores["accuracy"].b) == (0.5, 0.25)
    assert found.tests["accuracy"].name == "mcnemar"
    assert found.labels is not None
    assert (found.labels.only_a, found.labels.only_b) == (1, 0)
    # Of two wrong choices the one that stands nearer to the right one is no better.
    assert [(row.number, row.better) for row in found.disagreements] == [
        (2, "-"), (3, "-"), (4, "a"),
    ]  # fmt: skip


def test_configs(tmp_path: Path) -> None:
    found = compared(
        tmp_path,
        labels(GOLD, A),
        labels(GOLD, B),
        {"train__lr": 0.01, "method__reparam": "mlp"},
        {"train__lr": 0.006, "method": "finetune", "prompt_len": None},
    )
    assert set(found.differences) == {
        Difference("method.name", "ptuning_v2", "finetune"),
        Difference("method.reparam", "mlp", None),
        Difference("prompt_len", "20", "null"),
        Difference("train.lr", "0.01", "0.006"),
    }


def test_weights_and_environment_differ_too(tmp_path: Path) -> None:
    one = write(tmp_path / "a", lines=labels(GOLD, A), rows=9)
    other = write(tmp_path / "b", lines=labels(GOLD, B), rows=9)
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["backbone"]["identity"] = "f" * 64
    metrics["environment"]["torch"] = "2.14.0"
    (other / "metrics.json").write_text(json.dumps(metrics))
    found = compare([open_finished(one)], [open_finished(other)])
    assert found.differences == (
        Difference("backbone.weights", "b" * 12, "f" * 12),
        Difference("environment.torch", "2.13.0", "2.14.0"),
    )


@pytest.mark.parametrize(
    ("second", "lines", "asked", "says"),
    [
        ({"task": "superglue/rte"}, (GOLD, B), {}, "different tasks: superglue/cb (version 1) and"),
        ({"data": "d" * 64}, (GOLD, B), {}, "9 rows of file aaaaaaaa and 9 rows of file dddddddd"),
        ({"rows": 8}, (GOLD[:8], B[:8]), {}, "different data (validation): 9 rows"),
        ({"split": "test"}, (GOLD, B), {}, "report no split in common: validation; test"),
        ({}, (GOLD, B), {"split": "test"}, "has no predictions of split 'test'"),
        ({}, (GOLD, B), {"metric": "f1"}, "superglue/cb has no metric 'f1'"),
        ({}, ("eeeeccccc", B), {}, "hold different rows, from line 8 on"),
        ({}, (GOLD[:7], B[:7]), {}, "hold different rows, from line 8 on"),
        ({}, ("", ""), {}, "holds no predictions of a ptv2 run"),
    ],
)
def test_what_cannot_be_compared(
    tmp_path: Path,
    second: dict[str, Any],
    lines: tuple[str, str],
    asked: dict[str, str],
    says: str,
) -> None:
    with pytest.raises(Ptv2Error) as caught:
        compared(tmp_path, labels(GOLD, A), labels(*lines), None, second, **asked)
    assert caught.value.exit_code == 2
    assert says in str(caught.value)
    assert all(problem.hint for problem in caught.value.problems)


def test_holdouts_of_two_seeds(tmp_path: Path) -> None:
    changed = [{**line, "idx": 100} for line in labels(GOLD, B)]
    holdout = {"split": "holdout", "selection__split": "holdout"}
    with pytest.raises(InputError, match="a holdout depends on the seed"):
        compared(tmp_path, labels(GOLD, A), changed, holdout, {**holdout, "seed": 12})


def test_predictions_that_are_gone(tmp_path: Path) -> None:
    one = write(tmp_path / "a", lines=labels(GOLD, A), rows=9)
    other = write(tmp_path / "b", lines=labels(GOLD, B), rows=9)
    (other / "predictions" / "validation.jsonl").unlink()
    with pytest.raises(RunError, match="is missing"):
        compare([open_finished(one)], [open_finished(other)])


def seeds(folder: Path, guesses: Sequence[str], **made: Any) -> list[ReportedRun]:
    """Runs of one setting whose seeds answer so."""
    scores = [sum(map(str.__eq__, GOLD, guess)) / len(GOLD) for guess in guesses]
    return [
        open_finished(
            write(folder, lines=labels(GOLD, guess), rows=9, seed=at, score=score, **made)
        )
        for at, (guess, score) in enumerate(zip(guesses, scores, strict=True))
    ]


def test_several_seeds_a_side(tmp_path: Path) -> None:
    from scipy.stats import ttest_ind

    first = seeds(tmp_path / "a", [A, "e" * 9, "c" * 9])
    second = seeds(tmp_path / "b", [B, GOLD], train__lr=0.5)
    found = compare(first, second)
    score, test = found.scores["accuracy"], found.tests["accuracy"]
    assert (score.a, score.b) == (pytest.approx(12 / 27), pytest.approx(16 / 18))
    assert test.seeds == pytest.approx(
        ttest_ind([5 / 9, 4 / 9, 3 / 9], [7 / 9, 1], equal_var=False).pvalue
    )
    # McNemar's test is one of two runs.
    assert (test.name, test.rows) == ("bootstrap", score.p)
    assert test.p == max(test.rows, test.seeds)
    assert (found.labels, found.disagreements) == (None, ())
    assert found.differences == (
        Difference("train.lr", "0.01", "0.5"),
        Difference("train.seed", "0; 1; 2", "0; 1"),
    )


def test_metrics_are_several_comparisons(tmp_path: Path) -> None:
    found = compared(tmp_path, labels(GOLD, "c" * 9), labels(GOLD, GOLD))
    accuracy, f1 = found.tests["accuracy"], found.tests["f1_macro"]
    assert accuracy.p == 2 / 2**6 > f1.p
    assert f1.holm == pytest.approx(2 * f1.p)
    assert accuracy.holm == max(accuracy.p, f1.holm)


def test_a_run_that_stands_twice_is_no_second_seed(tmp_path: Path) -> None:
    (run,) = seeds(tmp_path, [A])
    with pytest.raises(InputError, match="are one run: it would count as several seeds"):
        compare([run, run], [run])


def test_texts_with_line_separators(tmp_path: Path) -> None:
    lines = [{**line, "premise": "a\u2028b\x85c"} for line in labels(GOLD, A)]
    folder = write(tmp_path, lines=lines, rows=9, schema=1)
    path = folder / "predictions" / "validation.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    run = open_finished(folder)
    assert compare([run], [run]).rows == 9


def test_metrics_by_name_are_compared_but_for_one_that_is_no_sum(tmp_path: Path) -> None:
    from sklearn.metrics import matthews_corrcoef

    asked = {"task__metrics": ["mcc", "auroc"]}
    found = compared(tmp_path / "x", labels(GOLD, A), labels(GOLD, B), asked, asked, metric="mcc")
    assert found.scores["mcc"].a == pytest.approx(matthews_corrcoef([*GOLD], [*A]))
    with pytest.raises(InputError, match="auroc is no sum over rows"):
        compared(tmp_path / "y", labels(GOLD, A), labels(GOLD, B), asked, asked, metric="auroc")
