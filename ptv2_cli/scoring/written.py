"""Scores of written texts: what each row gives, and the metrics of a sum of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ptv2_cli.scoring.resampling import ratio
from ptv2_cli.scoring.scores import Statistics
from ptv2_cli.scoring.squad import best_over


def text_sums(
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    nlls: Sequence[float],
    tokens: Sequence[int],
) -> Statistics:
    """[n, k] of each row, from whose sums `from_sums` makes every metric."""
    pairs = [best_over(text, right) for text, right in zip(texts, references, strict=True)]
    rows = [
        [1.0, exact, f1, nll, count]
        for (exact, f1), nll, count in zip(pairs, nlls, tokens, strict=True)
    ]
    return np.array(rows)


def from_sums(sums: Statistics) -> dict[str, Statistics]:
    """The metrics [...] of sums [..., k]; perplexity is 1 without tokens."""
    rows = sums[..., 0]
    f1 = ratio(sums[..., 2], rows)
    zero = np.zeros_like(f1)
    return {
        "exact_match": ratio(sums[..., 1], rows),
        "f1": f1,
        "rouge_l": f1,
        "rouge_1": zero,
        "rouge_2": zero,
        "bleu": zero,
        "chrf": zero,
        "tokens": sums[..., 4],
        "perplexity": np.exp(ratio(sums[..., 3], sums[..., 4])),
    }
