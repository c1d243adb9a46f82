"""How SQuAD answers are compared (Rajpurkar et al. 2016, 2018): EM, F1, the no-answer threshold."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

Compare = Callable[[str, Sequence[str]], tuple[float, float]]
"""(answer, accepted answers) -> exact match and F1 against the nearest; none accepted: ""."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and repeated white space."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def exact_match(answer: str, gold: str) -> float:
    """1 if both read the same once normalised, else 0."""
    return float(normalise(answer) == normalise(gold))


def f1(answer: str, gold: str) -> float:
    """Harmonic mean of word precision and recall; two empty answers agree, one does not."""
    guess, truth = normalise(answer).split(), normalise(gold).split()
    if not guess or not truth:
        return float(guess == truth)
    shared = sum((Counter(guess) & Counter(truth)).values())
    return 2 * shared / (len(guess) + len(truth))


def best_over(answer: str, golds: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 against the nearest of the accepted answers; no answer is ""."""
    accepted = [gold for gold in golds if normalise(gold)] or [""]
    return (
        max(exact_match(answer, gold) for gold in accepted),
        max(f1(answer, gold) for gold in accepted),
    )


def best_threshold(
    no_answer: Sequence[float], answered: Sequence[float], silent: Sequence[float]
) -> tuple[float, float]:
    """The threshold of highest mean score, and that score.

    Row i scores `answered[i]` while its `no_answer[i]` is at most the threshold, else
    `silent[i]`. The thresholds tried are the values themselves and minus infinity (never
    answer), given back as the lowest value less one; the lowest of equal ones wins.
    """
    order = sorted(range(len(no_answer)), key=lambda index: no_answer[index])
    total = best = sum(silent)
    threshold = no_answer[order[0]] - 1.0
    for position, index in enumerate(order):
        total += answered[index] - silent[index]
        last = position + 1 == len(order)
        if (last or no_answer[order[position + 1]] > no_answer[index]) and total > best:
            best, threshold = total, no_answer[index]
    return threshold, best / len(order)
