"""How answers without spaces are compared: EM and F1 over characters, as CMRC 2018 counts them.

Cui et al. 2019, arXiv 1810.07366, and its evaluation script: F1 over the longest run of segments
that both answers share, where a Chinese character is a segment and so is a Latin word. Two
differences: letters of every script without spaces are segments (the script knows U+4E00 to
U+9FA5), and Latin runs are parted by a pattern, not by NLTK.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ptv2_cli.tasks.script import LETTER

_SIGNS = "-:_*^/\\~`+=，。：？！“”；’《》…·、「」（）－～『』"  # noqa: RUF001 - these very signs
_DROPPED = str.maketrans("", "", _SIGNS)
"""The signs that the script leaves out."""
_SEGMENT = re.compile(rf"{LETTER.pattern}|\d+(?:[.,]\d+)*|(?:(?!{LETTER.pattern})\w)+|[^\w\s]")


def normalise(text: str) -> str:
    """Lower case, without the signs that do not count and without space around it."""
    return text.lower().strip().translate(_DROPPED)


def segments(text: str) -> list[str]:
    """Characters of scripts without spaces, words and numbers of others, single signs."""
    return _SEGMENT.findall(normalise(text))


def f1(answer: str, gold: str) -> float:
    """Harmonic mean of the shares of both that their longest common run covers."""
    guess, truth = segments(answer), segments(gold)
    if not guess or not truth:
        return float(guess == truth)
    return 2 * _longest_common(guess, truth) / (len(guess) + len(truth))


def best_over(answer: str, golds: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 against the nearest of the accepted answers; no answer is ""."""
    accepted = [gold for gold in golds if normalise(gold)] or [""]
    return (
        max(float(normalise(answer) == normalise(gold)) for gold in accepted),
        max(f1(answer, gold) for gold in accepted),
    )


def _longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest run of segments that stands in both."""
    best = 0
    above = [0] * (len(other) + 1)
    for left in one:
        row = [0]
        for index, right in enumerate(other):
            row.append(above[index] + 1 if left == right else 0)
        best = max(best, *row)
        above = row
    return best
