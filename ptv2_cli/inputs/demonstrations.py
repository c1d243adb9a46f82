"""In-context examples: labelled rows that stand before the row that is asked about.

Each is rendered by the input's own template, its label's word in the place of {mask}, and ends in
a blank line (Brown et al. 2020, arXiv 2005.14165, section 2, "few-shot").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ptv2_cli.data.rows import Row
from ptv2_cli.inputs.encoder import Demonstration, Encoder
from ptv2_cli.inputs.template import Literal, Mask, Prompt

BLANK_LINE = "\n\n"


def render(
    encoder: Encoder,
    columns: Sequence[str],
    rows: Sequence[Row],
    words: Mapping[str, int],
    gold_key: str = "label",
) -> list[Demonstration]:
    """Labelled rows as demonstrations.

    Args:
        encoder: one with a template that has `{mask}`.
        columns: the task's text columns.
        rows: rows with these columns and their label.
        words: label -> the token of its word.
        gold_key: the key of a row that holds its label.
    """
    end = encoder.tokenize([BLANK_LINE])[0]  # nothing where the tokenizer drops white space
    made = []
    for row in rows:
        texts = {name: str(row[name]) for name in columns}
        ids = [*_filled(encoder, texts, words[row[gold_key]]), *end]
        made.append(Demonstration(texts, tuple(ids)))
    return made


def _filled(encoder: Encoder, texts: Mapping[str, str], word: int) -> list[int]:
    """The tokens of the template with its texts and answer, without places of prompt vectors."""
    assert encoder.template is not None
    ids: list[int] = []
    for piece in encoder.template.pieces:
        if isinstance(piece, Mask):
            ids.append(word)
        elif not isinstance(piece, Prompt):
            text = piece.text if isinstance(piece, Literal) else texts[piece.name]
            ids += encoder.tokenize([text], piece.spaced)[0]
    return ids
