"""Scores of written texts: what each row adds to them, and the scores of a sum of rows.

BLEU: Papineni et al. 2002 (ACL), with the smoothing of sacrebleu (Post 2018, arXiv 1804.08771).
chrF: Popović 2015 (WMT), characters 1 to 6, beta 2, as sacrebleu has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ptv2_cli.scoring import cmrc, squad
from ptv2_cli.scoring.resampling import ratio
from ptv2_cli.scoring.scores import Statistics
from ptv2_cli.scoring.squad import Compare

EXACT, F1 = 0, 1
"""Columns of `text_sums`: whether a text is right, and how much of it."""
_ROUGE = slice(2, 5)
_ROWS, _NLL, _TOKENS = 5, 6, 7
_BLEU = slice(8, 18)
_CHRF = slice(18, 36)
_BETA = 2


def text_sums(
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    nlls: Sequence[float],
    tokens: Sequence[int],
) -> Statistics:
    """[n, 36]: what each row adds to the sums from which `from_sums` makes every metric.

    Args:
        texts: what was written.
        references: for each row one or more texts that are right.
        nlls: minus the log probability of each row's right text, 0 where it is unknown.
        tokens: how many tokens that is of, 0 where it is unknown.
    """
    from ptv2_cli.scoring.overlap import bleu_sums, chrf_sums, tokenizer_of
    from ptv2_cli.scoring.rouge import rouge

    tokenizer = tokenizer_of(references)
    compare = squad.best_over if tokenizer == "13a" else cmrc.best_over
    pairs = list(zip(texts, references, strict=True))
    return np.hstack(
        [
            np.array([_agreement(text, right, compare) for text, right in pairs]),
            np.array([rouge(text, right) for text, right in pairs]),
            np.array([np.ones(len(pairs)), nlls, tokens]).T,
            bleu_sums(texts, references, tokenizer),
            chrf_sums(texts, references),
        ]
    )


def from_sums(sums: Statistics) -> dict[str, Statistics]:
    """The metrics [...] of sums [..., 36]; perplexity is 1 without tokens."""
    rows = sums[..., _ROWS]
    rouge_1, rouge_2, rouge_l = np.moveaxis(ratio(sums[..., _ROUGE], rows[..., None]), -1, 0)
    return {
        "rouge_l": rouge_l,
        "rouge_1": rouge_1,
        "rouge_2": rouge_2,
        "bleu": _bleu(sums[..., _BLEU]),
        "chrf": _chrf(sums[..., _CHRF]),
        "f1": ratio(sums[..., F1], rows),
        "exact_match": ratio(sums[..., EXACT], rows),
        "tokens": sums[..., _TOKENS],
        "perplexity": np.exp(ratio(sums[..., _NLL], sums[..., _TOKENS])),
    }


def _agreement(text: str, references: Sequence[str], compare: Compare) -> tuple[float, float]:
    """Exact match and F1 against the nearest reference.

    SQuAD drops articles and punctuation. A reference of which that leaves nothing, such as `A` or
    `?`, is matched by the same text alone.
    """
    same = text.strip().lower()
    if any(same == right.strip().lower() for right in references):
        return 1.0, 1.0
    readable = [right for right in references if squad.normalise(right)]
    return compare(text, readable) if readable else (0.0, 0.0)


def _bleu(sums: Statistics) -> Statistics:
    """BLEU [...] of sums [..., 10], see `overlap.bleu_sums`."""
    written, right = sums[..., 0], sums[..., 1]
    matches, count = sums[..., 2:6], sums[..., 6:10]
    # The k-th order without a match counts as 1 / 2^k matches.
    smooth = 0.5 ** np.cumsum(matches == 0, axis=-1)
    precision = ratio(np.where(matches > 0, matches, smooth), count)
    known = (precision > 0).all(axis=-1) & (matches > 0).any(axis=-1)
    logs = np.log(precision, out=np.zeros_like(precision), where=precision > 0)
    penalty = np.exp(np.minimum(0.0, 1 - ratio(right, written)))
    return np.where(known, penalty * np.exp(logs.mean(axis=-1)), 0.0)


def _chrf(sums: Statistics) -> Statistics:
    """chrF [...] of sums [..., 18], see `overlap.chrf_sums`."""
    written, right, matches = np.moveaxis(sums.reshape(*sums.shape[:-1], 6, 3), -1, 0)
    # Orders longer than one of the texts do not count.
    orders = ((written > 0) & (right > 0)).sum(axis=-1)
    precision = ratio(ratio(matches, written).sum(axis=-1), orders)
    recall = ratio(ratio(matches, right).sum(axis=-1), orders)
    return ratio((1 + _BETA**2) * precision * recall, _BETA**2 * precision + recall)
