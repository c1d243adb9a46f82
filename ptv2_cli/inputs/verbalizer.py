"""Verbalizers: the word of each label, and labelled rows that show a model these words.

Schick and Schütze 2021 (arXiv 2001.07676, section 3.1) call words and template verbalizer and
pattern. Rows shown in the input are the examples of Brown et al. 2020 (arXiv 2005.14165, section
2, "few-shot").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ptv2_cli.data.rows import Row
from ptv2_cli.errors import ConfigError, Problem, gather
from ptv2_cli.inputs.encoder import Demonstration, Encoder
from ptv2_cli.inputs.template import Literal, Mask, Prompt, Template

WORDS = "head.words"
TEMPLATE = "head.template"


def word_problems(words: Mapping[str, str], labels: Sequence[str], where: str) -> Iterator[Problem]:
    """Labels without a word, words without a label, and words that two labels share."""
    hint = f"write words: {{{', '.join(f'{label}: WORD' for label in labels)}}}"
    for label in labels:
        if label not in words:
            yield Problem(where, f"has no word for the label {label!r}", hint)
    for label in words:
        if label not in labels:
            yield Problem(f"{where}.{label}", f"{label!r} is no label of the task", hint)
    seen: dict[str, str] = {}
    for label, word in words.items():
        if word in seen:
            yield Problem(
                f"{where}.{label}",
                f"{word!r} is already the word of {seen[word]!r}: an answer could mean either",
                "give every label another word",
            )
        seen.setdefault(word, label)


def word_tokens(
    encoder: Encoder, words: Mapping[str, str], labels: Sequence[str], where: str = WORDS
) -> list[int]:
    """The token of each label's word in the template, in the order of the labels.

    Raises:
        ConfigError: words that are several tokens, none, or the unknown one; all of them at once.
    """
    assert encoder.template is not None
    tokens: list[int] = []
    problems: list[Problem] = []
    for label in labels:
        ids = _at_mask(encoder, encoder.template, words[label])
        what = _wrong_with(encoder, words[label], ids)
        if what is None and ids[0] in tokens:
            other = words[labels[tokens.index(ids[0])]]
            what = f"{words[label]!r} and {other!r} are one token"
        if what is not None:
            hint = "choose a word that is one token, such as a common short one"
            problems.append(Problem(f"{where}.{label}", what, hint))
        tokens.append(ids[0] if ids else -1)
    gather(problems, ConfigError)
    return tokens


def _at_mask(encoder: Encoder, template: Template, word: str) -> list[int]:
    """The word's tokens at {mask}, with the space before it."""
    mask = next(piece for piece in template.pieces if isinstance(piece, Mask))
    if mask.spaced:
        return encoder.tokenize([word], spaced=True)[0]
    # Sentencepiece tokenizers put a space before every text: tokenize a sign before the word, and
    # take its tokens away, unless sign and word become one token.
    alone, joined = encoder.tokenize([".", "." + word])
    return joined[len(alone) :] if joined[: len(alone)] == alone else encoder.tokenize([word])[0]


def _wrong_with(encoder: Encoder, word: str, ids: Sequence[int]) -> str | None:
    if not ids:
        return f"the tokenizer drops the word {word!r}"
    if len(ids) > 1:
        pieces = " ".join(encoder.tokenizer.convert_ids_to_tokens(list(ids)))
        return f"the word {word!r} is {len(ids)} tokens here, not one: {pieces}"
    if ids[0] == encoder.tokenizer.unk_token_id:
        return f"the tokenizer does not know the word {word!r}"
    return None


BLANK_LINE = "\n\n"


def render_demonstrations(
    encoder: Encoder,
    columns: Sequence[str],
    rows: Sequence[Row],
    words: Mapping[str, int],
    gold_key: str = "label",
) -> list[Demonstration]:
    """Labelled rows in the input's own template, with the label's word at {mask}.

    Args:
        encoder: one with a template that has `{mask}`.
        columns: the task's text columns.
        rows: rows with these columns and their label.
        words: label -> the token of its word.
        gold_key: the key of a row that holds its label.
    """
    assert encoder.template is not None
    end = encoder.tokenize([BLANK_LINE])[0]  # nothing if the tokenizer drops white space
    rendered = []
    for row in rows:
        texts = {name: str(row[name]) for name in columns}
        ids: list[int] = []
        for piece in encoder.template.pieces:
            if isinstance(piece, Mask):
                ids.append(words[row[gold_key]])
            elif not isinstance(piece, Prompt):
                text = piece.text if isinstance(piece, Literal) else texts[piece.name]
                ids += encoder.tokenize([text], piece.spaced)[0]
        rendered.append(Demonstration(texts, (*ids, *end)))
    return rendered
