"""How answers without spaces are compared: EM and F1 over characters, as CMRC 2018 counts them.

Cui et al. 2019, arXiv 1810.07366, and its evaluation script: F1 over the longest run of segments
that both answers share, where a Chinese character is a segment and so is a Latin word. Two
differences: letters of every script without spaces are segments (the script knows U+4E00 to
U+9FA5), and a pattern separates Latin words, not NLTK.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Japanese kana, ideographic zero
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
LETTER = re.compile(f"[{_UNSPACED}]")
"""One letter of such a script."""
_EDGE = re.compile(f"[{_UNSPACED}\u3000-\u303f\uff00-\uffef]")
"""Such a letter, or the punctuation and full-width forms that stand between them."""


def is_unspaced(texts: Iterable[str]) -> bool:
    """Whether most letters of the texts are of a script without spaces."""
    signs = [sign for text in texts for sign in text if sign.isalpha()]
    return 2 * sum(LETTER.match(sign) is not None for sign in signs) > len(signs)


def join_words(words: Sequence[str]) -> str:
    """Words as one text: a space between them, but none beside a letter of such a script."""
    text = ""
    for word in words:
        close = not text or _EDGE.match(text[-1]) or _EDGE.match(word[:1])
        text += word if close else f" {word}"
    return text


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
    # Without autojunk, which in long answers leaves frequent characters out.
    common = SequenceMatcher(None, guess, truth, autojunk=False).find_longest_match()
    return 2 * common.size / (len(guess) + len(truth))


def best_over(answer: str, golds: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 against the nearest of the accepted answers; no answer is ""."""
    accepted = [gold for gold in golds if normalise(gold)] or [""]
    return (
        max(float(normalise(answer) == normalise(gold)) for gold in accepted),
        max(f1(answer, gold) for gold in accepted),
    )
