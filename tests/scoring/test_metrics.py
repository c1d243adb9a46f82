"""Metrics that a config asks for by name: values, errors, and where there is none."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from scipy import stats
from sklearn import metrics as sklearn

from ptv2_cli.errors import ConfigError, DataError, InputError
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.scoring.metrics import AUROC, NAMED, _weighted, auroc, auroc_error
from ptv2_cli.scoring.resampling import class_scores
from ptv2_cli.tasks.catalog import load_task

LABELS = {2: ("no", "yes"), 3: ("a", "b", "c")}


def task_of(classes: int) -> Any:
    options = {"labels": list(LABELS[classes]), "metrics": list(NAMED)}
    return load_task("text/classification", options)


def drawn(classes: int, count: int = 60, seed: int = 3) -> tuple[list[Any], list[Any]]:
    """Rows and prediction lines, with equal probabilities among them and rows of one class."""
    source = np.random.default_rng(seed)
    labels = LABELS[classes]
    rows, lines = [], []
    for at in range(count):
        found = source.integers(1, 5, classes).astype(float)
        found /= found.sum()
        gold = labels[int(source.integers(classes)) if at else 0]
        rows.append({"text": "x", "label": gold})
        probabilities = dict(zip(labels, found.tolist(), strict=True))
        lines.append({"label": labels[int(found.argmax())], "probabilities": probabilities})
    return rows, lines


@pytest.mark.parametrize("classes", [2, 3])
def test_values_are_those_of_scikit_learn(classes: int) -> None:
    task, (rows, lines) = task_of(classes), drawn(classes)
    truth = [row["label"] for row in rows]
    guess = [line["label"] for line in lines]
    scores = np.array([list(line["probabilities"].values()) for line in lines])
    ranked = scores[:, 1] if classes == 2 else scores
    expected = {
        "accuracy": sklearn.accuracy_score(truth, guess),
        "mcc": sklearn.matthews_corrcoef(truth, guess),
        "auroc": sklearn.roc_auc_score(truth, ranked, multi_class="ovr"),
        "balanced_accuracy": sklearn.balanced_accuracy_score(truth, guess),
        "f1_macro": sklearn.f1_score(truth, guess, average="macro"),
        "f1_micro": sklearn.f1_score(truth, guess, average="micro"),
        "f1_weighted": sklearn.f1_score(truth, guess, average="weighted"),
        "precision_macro": sklearn.precision_score(truth, guess, average="macro"),
        "recall_macro": sklearn.recall_score(truth, guess, average="macro"),
        "precision_weighted": sklearn.precision_score(truth, guess, average="weighted"),
        "recall_weighted": sklearn.recall_score(truth, guess, average="weighted"),
    }
    assert set(expected) == {"accuracy", *NAMED}
    found = task.score(rows, lines)
    assert found.metrics == pytest.approx(expected)
    # What is resampled is the same score, and every one has its error.
    totals = task.from_statistics(task.row_statistics(rows, lines).sum(axis=0))
    assert {name: float(value) for name, value in totals.items()} == pytest.approx(
        {name: value for name, value in expected.items() if name != AUROC}
    )
    assert found.standard_errors.keys() == expected.keys()
    assert all(0 < error < 0.2 for error in found.standard_errors.values())


def test_classes_that_are_missing_count_as_scikit_learn_has_them() -> None:
    source = random.Random(4)
    for _ in range(200):
        size = source.randint(1, 6)
        truth = source.choices(range(4), k=size)
        guess = source.choices(range(source.randint(1, 4)), k=size)
        confusion = np.zeros((4, 4))
        np.add.at(confusion, (truth, guess), 1)
        found = class_scores(confusion)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = {
                "mcc": sklearn.matthews_corrcoef(truth, guess),
                "balanced_accuracy": sklearn.balanced_accuracy_score(truth, guess),
                **{
                    f"{name}_{average}": getattr(sklearn, f"{name}_score")(
                        truth, guess, average=average, zero_division=0
                    )
                    for name in ("precision", "recall", "f1")
                    for average in ("macro", "weighted")
                },
            }
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(value), (name, truth, guess)


def test_the_error_of_auroc_is_that_of_resampled_rows() -> None:
    source = np.random.default_rng(5)
    truth = source.integers(0, 2, 200)
    positive = np.round(source.normal(truth, 1.0), 1)  # some are equal
    probabilities = np.stack([-positive, positive], axis=1)
    draws = []
    for _ in range(2000):
        rows = source.integers(0, 200, 200)
        draws.append(sklearn.roc_auc_score(truth[rows], positive[rows]))
    assert auroc_error(truth, probabilities) == pytest.approx(np.std(draws), rel=0.1)
    weights = source.integers(0, 4, (5, 200)).astype(float)
    expected = [sklearn.roc_auc_score(truth, positive, sample_weight=own) for own in weights]
    found = _weighted(truth == 1, positive, weights)
    np.testing.assert_allclose(found, expected)
    # Mann and Whitney's statistic is the area too.
    u = stats.mannwhitneyu(positive[truth == 1], positive[truth == 0]).statistic
    pairs = (truth == 1).sum() * (truth == 0).sum()
    assert auroc(truth, probabilities) == pytest.approx(u / pairs)


@pytest.mark.parametrize("classes", [2, 3])
def test_auroc_is_left_out_where_a_class_has_no_row(classes: int) -> None:
    task, (rows, lines) = task_of(classes), drawn(classes)
    kept = [at for at, row in enumerate(rows) if row["label"] != LABELS[classes][1]]
    rows, lines = [rows[at] for at in kept], [lines[at] for at in kept]
    found = task.score(rows, lines)
    assert set(found.metrics) == {"accuracy", *NAMED} - {AUROC}
    assert AUROC not in found.standard_errors
    assert task.undefined(rows) == {AUROC: f"no row of the class {LABELS[classes][1]!r}"}
    assert not np.isnan(list(found.metrics.values())).any()


def test_the_majority_class_has_every_metric_too() -> None:
    task, (rows, _) = task_of(2), drawn(2)
    found = task.score(rows, task.majority(rows, rows)).metrics
    assert found.keys() == {"accuracy", *NAMED}
    assert (found["mcc"], found["auroc"], found["balanced_accuracy"]) == (0, 0.5, 0.5)


# In a run


@pytest.fixture
def config(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return tiny.write_config(
        tmp_path / "x.yaml", folder_of("bert"), tiny.write_rte(tmp_path / "rte")
    )


def test_the_metric_that_selects_is_given_beside_the_task_s_own(
    config: Path, tmp_path: Path
) -> None:
    sets = ("selection.metric=auroc", "task.metrics=[mcc]")
    session, metrics = tiny.trained(config, tmp_path / "runs", *sets)
    assert metrics["metrics"]["validation"].keys() == {"accuracy", "mcc", "auroc"}
    assert metrics["majority_baseline"].keys() == {"accuracy", "mcc", "auroc"}
    assert metrics["selection"]["metric"] == "auroc"
    assert metrics["selection"]["value"] == metrics["metrics"]["validation"]["auroc"]
    assert metrics["standard_error"] is not None
    directory = session.resolved_run.directory
    again = open_for_rescoring(directory, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}
    again = tiny.prepared(directory.config, tmp_path / "runs")
    assert again.fingerprint == session.resolved_run.fingerprint


def test_asking_for_no_metric_is_the_run_that_it_was(config: Path, tmp_path: Path) -> None:
    plain = tiny.prepared(config, tmp_path / "runs")
    empty = tiny.prepared(config, tmp_path / "runs", ["task.metrics=[]"])
    named = tiny.prepared(config, tmp_path / "runs", ["task.metrics=[mcc]"])
    assert plain.fingerprint == empty.fingerprint != named.fingerprint
    assert plain.resolved.task.metrics == ("accuracy",)


def test_one_of_several_tasks_may_ask_for_its_own(config: Path, tmp_path: Path) -> None:
    rte = {"name": "superglue/rte", "data": str(tmp_path / "rte")}
    own = {"name": "text/classification", "data": str(tmp_path / "rte"), "text": "premise"}
    several = {"task": None, "tasks": [rte, own]}

    def made(name: str, **changes: Any) -> Any:
        path = tmp_path / name / "m.yaml"
        path.parent.mkdir()
        folder = Path(tiny.yaml.safe_load(config.read_text())["backbone"])
        tiny.write_config(path, folder, tmp_path / "rte", **{**several, **changes})
        return tiny.prepared(path, tmp_path / "runs")

    plain = made("plain")
    chosen = made("chosen", selection={"metric": "rte.auroc"})
    asked = made("asked", tasks=[rte, {**own, "metrics": ["mcc"]}])
    assert "rte.auroc" in chosen.resolved.task.metrics
    assert "classification.mcc" in asked.resolved.task.metrics
    assert len({plain.fingerprint, chosen.fingerprint, asked.fingerprint}) == 3
    rows = plain.data.rows("validation")
    left = [row for row in rows if row["task"] != "rte" or row["label"] == "entailment"]
    assert chosen.resolved.task.undefined(left) == {
        "rte.auroc": "no row of the class 'not_entailment'"
    }


def one_class(config: Path) -> None:
    path = config.parent / "rte" / "val.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["label"] == "entailment"))


def test_a_split_without_a_class_leaves_auroc_out_and_says_so(config: Path, tmp_path: Path) -> None:
    one_class(config)
    _, metrics = tiny.trained(config, tmp_path / "runs", "task.metrics=[auroc]")
    assert metrics["metrics"]["validation"].keys() == {"accuracy"}
    left_out = "auroc is left out on validation: no row of the class 'not_entailment'"
    assert left_out in metrics["warnings"]


def test_selecting_by_a_metric_without_value_is_refused(config: Path, tmp_path: Path) -> None:
    one_class(config)
    with pytest.raises(DataError) as caught:
        tiny.prepared(config, tmp_path / "runs", ["selection.metric=auroc"])
    (problem,) = caught.value.problems
    assert problem.what == (
        "selection.metric auroc has no value on validation: no row of the class 'not_entailment'"
    )
    assert "--set selection.metric=accuracy" in problem.hint


@pytest.mark.parametrize(
    ("setting", "what", "hint"),
    [
        ("task.metrics=[auc]", "has the unknown metric 'auc'", "did you mean auroc?"),
        ("selection.metric=f1_makro", "has no metric 'f1_makro'", "did you mean f1_macro?"),
    ],
)
def test_an_unknown_metric_is_refused(
    setting: str, what: str, hint: str, config: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny.prepared(config, tmp_path / "runs", [setting])
    (problem,) = caught.value.problems
    assert what in problem.what
    assert hint in problem.hint


@pytest.mark.parametrize("name", ["superglue/multirc", "superglue/copa", "ner/conll2003"])
def test_tasks_of_other_answers_have_none(name: str) -> None:
    assert load_task(name).measuring("mcc").metrics == load_task(name).metrics
    with pytest.raises(InputError, match="metrics"):
        load_task(name, {"metrics": ["mcc"]})
