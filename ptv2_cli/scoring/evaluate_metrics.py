"""The metrics: `evaluate.Metric`s that ship with the package.

Imported at the first evaluation. They are computed in memory: no file or folder is made and
nothing is fetched, whatever HOME and HF_HOME are.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ptv2_cli.importing import uncollected
from ptv2_cli.scoring.resampling import class_scores
from ptv2_cli.scoring.squad import Compare, best_over

with uncollected():
    import datasets
    import evaluate
    from datasets import Features, Value

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
