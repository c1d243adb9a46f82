"""The metrics: `evaluate.Metric`s that ship with the package.

Imported at the first evaluation. They are computed in memory: no file or folder is made and
nothing is fetched, whatever HOME and HF_HOME are.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from datasets import Features, Value

from ptv2_cli.scoring.resampling import class_scores, sampled_rows
from ptv2_cli.scoring.scores import Statistics
from ptv2_cli.scoring.squad import Compare, best_over

_CLASSES = Features({"predictions": Value("int64"), "references": Value("int64")})
_TAGS = Features(
    {
        "predictions": datasets.Sequence(Value("string")),
        "references": datasets.Sequence(Value("string")),
    }
)
_ANSWERS = Features(
    {"predictions": Value("string"), "references": datasets.Sequence(Value("string"))}
)


class InMemoryMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric that needs no cache folder. Subclasses say their `inputs` and `_compute`."""

    inputs: Features
    what: str

    def __init__(self) -> None:
        # A given seed keeps the base class from reading numpy's global generator.
        super().__init__(keep_in_memory=True, seed=0)

    def _build_data_dir(self) -> str:
        return str(self._data_dir_root)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.what, citation="", inputs_description=self.what, features=self.inputs
        )


class Accuracy(InMemoryMetric):
    """Share of rows whose predicted class is the gold one."""

    inputs = _CLASSES
    what = "Share of right predictions."

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(np.mean(np.equal(predictions, references)))}


class MacroF1(InMemoryMetric):
    """Mean of the classes' F1, over the classes that occur."""

    inputs = _CLASSES
    what = "Mean of the F1 of all classes that occur as gold or prediction."

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        size = int(max(*predictions, *references)) + 1
        confusion = np.zeros((size, size))
        np.add.at(confusion, (np.asarray(references), np.asarray(predictions)), 1)
        return {"f1_macro": float(class_scores(confusion)["f1_macro"])}


class Entities(InMemoryMetric):
    """Entity precision, recall and F1 by seqeval: default mode, and strict (IOB2) beside it.

    `types` holds the default mode's figures of every gold or predicted entity type.
    """

    inputs = _TAGS
    what = "Entity precision, recall and F1 (seqeval)."

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        from seqeval.metrics import classification_report
        from seqeval.scheme import IOB2

        scores: dict[str, Any] = {}
        for suffix, mode in (("", {}), ("_strict", {"mode": "strict", "scheme": IOB2})):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = _report(classification_report, references, predictions, mode)
            micro = report.pop("micro avg", {})
            for ours, theirs in (
                ("precision", "precision"),
                ("recall", "recall"),
                ("f1", "f1-score"),
            ):
                scores[ours + suffix] = float(micro.get(theirs, 0.0))
            if not suffix:
                scores["types"] = {
                    name: {
                        "precision": float(found["precision"]),
                        "recall": float(found["recall"]),
                        "f1": float(found["f1-score"]),
                        "support": int(found["support"]),
                    }
                    for name, found in report.items()
                    if not name.endswith(" avg")
                }
        return scores


def _report(function: Any, references: Any, predictions: Any, mode: dict[str, Any]) -> Any:
    """seqeval's report; empty where neither side has an entity, on which it fails."""
    if not any(tag != "O" for side in (references, predictions) for tags in side for tag in tags):
        return {}
    return function(references, predictions, output_dict=True, zero_division=0, **mode)


class Squad(InMemoryMetric):
    """Exact match and F1 of answers, as the official SQuAD 2.0 script has them (here / 100).

    A reference is the list of accepted answers; empty: right is "" alone. Questions with and
    without an answer are counted apart in `has_answer` and `no_answer`. `compare` may compare
    answers in another way.
    """

    inputs = _ANSWERS
    what = "Exact match and F1 of answers (SQuAD)."

    def __init__(self, compare: Compare = best_over) -> None:
        super().__init__()
        self._compare = compare

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        pairs = zip(predictions, references, strict=True)
        scores = np.array([self._compare(answer, golds) for answer, golds in pairs])
        answerable = np.array([len(golds) > 0 for golds in references])
        return _means(scores) | {
            "has_answer": _means(scores[answerable]),
            "no_answer": _means(scores[~answerable]),
        }


class AnswerOptions(InMemoryMetric):
    """MultiRC's two: F1 over all answers (F1a), and exact match over questions.

    F1a is the harmonic mean of precision and recall of "this answer is right" (class 1) over the
    answers of all questions (Khashabi et al. 2018); exact match is the share of
    questions of which every answer is classified right (SuperGLUE, arXiv 1905.00537).
    """

    inputs = Features(
        {
            "predictions": {"question": Value("string"), "label": Value("int64")},
            "references": Value("int64"),
        }
    )
    what = "F1 over all answers and exact match over questions (MultiRC)."

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        guess = np.array([line["label"] for line in predictions])
        truth = np.asarray(references)
        wrong = {line["question"] for line, gold in zip(predictions, truth, strict=True)
                 if line["label"] != gold}  # fmt: skip
        questions = {line["question"] for line in predictions}
        both = np.sum((guess == 1) & (truth == 1))
        either = np.sum(guess == 1) + np.sum(truth == 1)
        return {
            "f1_a": float(2 * both / either) if either else 0.0,
            "exact_match": 1 - len(wrong) / len(questions),
        }


def _means(scores: Any) -> dict[str, Any]:
    exact, f1 = scores.mean(axis=0) if len(scores) else (0.0, 0.0)
    return {"exact_match": float(exact), "f1": float(f1), "rows": len(scores)}


AUROC = "auroc"
NAMED = (
    *("mcc", AUROC, "balanced_accuracy"),
    *("f1_macro", "f1_micro", "f1_weighted"),
    *("precision_macro", "recall_macro", "precision_weighted", "recall_weighted"),
)
ALWAYS = ("accuracy",)
_CELLS_AT_ONCE = 4_000_000


def named_scores(
    names: Sequence[str], truth: Sequence[int], guess: Sequence[int], probabilities: Statistics
) -> dict[str, float]:
    """Values by scikit-learn, without those that the rows leave undefined.

    Averages are over the classes that occur as gold or prediction; balanced_accuracy over those
    that occur as gold.

    Args:
        names: of NAMED.
        truth: gold classes [n].
        guess: predicted classes [n].
        probabilities: [n, C].
    """
    from sklearn import metrics

    found: dict[str, float] = {}
    with warnings.catch_warnings():
        # It warns of classes that were never predicted; the value 0 says as much.
        warnings.simplefilter("ignore")
        for name in names:
            figure, _, average = name.partition("_")
            if name == AUROC:
                value = auroc(truth, probabilities)
                found |= {} if value is None else {AUROC: value}
            elif name == "mcc":
                found[name] = float(metrics.matthews_corrcoef(truth, guess))
            elif name == "balanced_accuracy":
                found[name] = float(metrics.balanced_accuracy_score(truth, guess))
            else:
                score: Any = getattr(metrics, f"{figure}_score")
                found[name] = float(score(truth, guess, average=average, zero_division=0))
    return found


def auroc(truth: Sequence[int], probabilities: Statistics) -> float | None:
    """Area under the ROC curve; None where a class has no row.

    Of two classes that of the second one's probability; of more the mean of each class against
    the rest (Fawcett 2006, Pattern Recognition Letters 27, section 9.2, without weights).
    """
    from sklearn.metrics import roc_auc_score

    gold = np.asarray(truth)
    if missing_classes(gold, probabilities.shape[1]):
        return None
    classes = _asked(probabilities)
    return float(np.mean([roc_auc_score(gold == at, probabilities[:, at]) for at in classes]))


def auroc_error(truth: Sequence[int], probabilities: Statistics) -> float | None:
    """Its standard error by the bootstrap over rows, as `resampled_errors` has it.

    Draws that leave out a class have no value and do not count; None with fewer than two values.
    """
    gold = np.asarray(truth)
    weights = sampled_rows(len(gold)).astype(float)
    values = np.mean(
        [_weighted(gold == at, probabilities[:, at], weights) for at in _asked(probabilities)],
        axis=0,
    )
    known = values[np.isfinite(values)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def missing_classes(truth: Any, classes: int) -> list[int]:
    """The classes that no row has."""
    return sorted(set(range(classes)) - set(map(int, truth)))


def _asked(probabilities: Statistics) -> list[int]:
    """The classes whose curves count: of two the second."""
    count = probabilities.shape[1]
    return [1] if count == 2 else list(range(count))


def _weighted(positive: Any, scores: Statistics, weights: Statistics) -> Statistics:
    """Areas [D] of one class against the rest, rows weighted [D, n]; NaN without either side.

    The share of pairs of a positive and a negative row that the scores put in this order, equal
    scores counting half (Mann and Whitney 1947).
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    at_once = max(1, _CELLS_AT_ONCE // len(scores))
    parts = []
    for first in range(0, len(weights), at_once):
        own = weights[first : first + at_once, order]
        above = np.add.reduceat(own * positive[order], starts, axis=1)
        below = np.add.reduceat(own * ~positive[order], starts, axis=1)
        pairs = above * (np.cumsum(below, axis=1) - below / 2)
        with np.errstate(invalid="ignore"):
            parts.append(pairs.sum(axis=1) / (above.sum(axis=1) * below.sum(axis=1)))
    return np.concatenate(parts)
