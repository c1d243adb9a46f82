"""Tasks whose answer is a text, compared with the accepted ones as SQuAD compares them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ptv2_cli.data.rows import Row
from ptv2_cli.scoring.resampling import mean_error
from ptv2_cli.scoring.scores import Prediction, Scores, Statistics
from ptv2_cli.scoring.squad import Compare, best_over
from ptv2_cli.tasks.base import Task


class AnswerTask(Task):
    """Rows with `answers`; a prediction has `answer`. Metrics are exact_match and f1."""

    gold_key: str = "answers"
    compare: Compare = staticmethod(best_over)
    """How an answer is compared with the accepted ones."""

    def answer(self, line: Mapping[str, Any]) -> Any:
        """The answer's text; see Task.answer."""
        return line["prediction"]["answer"]

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, 3]: exact match, F1 and 1."""
        pairs = zip(rows, predictions, strict=True)
        return np.array(
            [[*self.compare(line["answer"], self.gold(row)), 1.0] for row, line in pairs]
        )

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """exact_match and f1 from sums [..., 3]."""
        means = {
            "exact_match": totals[..., 0] / totals[..., 2],
            "f1": totals[..., 1] / totals[..., 2],
        }
        return {name: means[name] for name in self.metrics}

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """exact_match and f1; see Task.score."""
        from ptv2_cli.scoring.evaluate_metrics import Squad

        self.require_gold(rows)
        found = Squad(self.compare).compute(
            predictions=[line["answer"] for line in predictions],
            references=[self.gold(row) for row in rows],
        )
        statistics = self.row_statistics(rows, predictions)
        errors = {
            "exact_match": mean_error(statistics[:, 0]),
            "f1": mean_error(statistics[:, 1]),
        }
        return self.scores(found, errors, self._detail(rows, predictions, found))

    @abstractmethod
    def _detail(
        self, rows: Sequence[Row], predictions: Sequence[Prediction], found: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What stands beside the scores `found`."""
