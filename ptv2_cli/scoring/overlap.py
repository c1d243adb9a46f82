"""What each row adds to corpus BLEU and chrF, counted by the package sacrebleu."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import numpy as np

from ptv2_cli.importing import uncollected
from ptv2_cli.scoring.cmrc import LETTER, is_unspaced
from ptv2_cli.scoring.scores import Statistics

with uncollected():
    from sacrebleu.metrics import BLEU, CHRF

Tokenizer = Literal["13a", "zh", "char"]
"""Names of tokenizers of sacrebleu."""
_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def tokenizer_of(references: Sequence[Sequence[str]]) -> Tokenizer:
    """What parts texts into the words of BLEU: 13a, which needs spaces between them.

    For texts without spaces zh if they are Chinese, else char: each character is a word.
    """
    texts = [text for right in references for text in right]
    if not any(map(LETTER.search, texts)) or not is_unspaced(texts):
        return "13a"
    letters = [sign for text in texts for sign in text if LETTER.match(sign)]
    chinese = sum(_CHINESE.match(sign) is not None for sign in letters)
    return "zh" if 2 * chinese > len(letters) else "char"


def bleu_sums(
    texts: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Tokenizer
) -> Statistics:
    """[n, 10]: lengths of text and nearest reference, matches and n-grams of 1 to 4 words."""
    return _sums(BLEU(tokenize=tokenizer, force=True), texts, references)


def chrf_sums(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    """[n, 18]: for 1 to 6 characters the n-grams of text and best reference, and matches."""
    return _sums(CHRF(), texts, references)


def _sums(
    metric: BLEU | CHRF, texts: Sequence[str], references: Sequence[Sequence[str]]
) -> Statistics:
    # sacrebleu wants the first reference of every row, then the second of every row, and None
    # where a row has fewer.
    streams = [list(stream) for stream in zip_longest(*references)]
    return np.array(metric._extract_corpus_statistics(texts, streams), float)
