"""Scripts that put no space between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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


def joined(words: Sequence[str]) -> str:
    """Words as one text: a space between them, but none beside a letter of such a script."""
    text = ""
    for word in words:
        close = not text or _EDGE.match(text[-1]) or _EDGE.match(word[:1])
        text += word if close else f" {word}"
    return text
