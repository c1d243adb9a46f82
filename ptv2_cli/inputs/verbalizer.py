"""Verbalizers: the word that stands for each label, and the template that asks for it.

Schick and Schütze 2021 (arXiv 2001.07676, section 3.1) call them verbalizer and pattern.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ptv2_cli.errors import ConfigError, Problem, gather
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.template import Mask, Template

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
                f"{word!r} already stands for {seen[word]!r}: no answer could tell them apart",
                "give every label a word of its own",
            )
        seen.setdefault(word, label)


def word_tokens(
    encoder: Encoder, words: Mapping[str, str], labels: Sequence[str], where: str = WORDS
) -> list[int]:
    """The token of each label's word, in the order of the labels, as it stands in the template.

    Raises:
        ConfigError: words that are several tokens, none, or the unknown one; all of them at once.
    """
    assert encoder.template is not None
    found: list[int] = []
    problems: list[Problem] = []
    for label in labels:
        ids = _in_place(encoder, encoder.template, words[label])
        complaint = _complaint(encoder, words[label], ids)
        if complaint is None and ids[0] in found:
            other = words[labels[found.index(ids[0])]]
            complaint = f"{words[label]!r} and {other!r} are one token"
        if complaint is not None:
            hint = "choose a word that the tokenizer has whole, such as a common short one"
            problems.append(Problem(f"{where}.{label}", complaint, hint))
        found.append(ids[0] if ids else -1)
    gather(problems, ConfigError)
    return found


def _in_place(encoder: Encoder, template: Template, word: str) -> list[int]:
    """The word's tokens at {mask}, its leading space and all."""
    mask = next(piece for piece in template.pieces if isinstance(piece, Mask))
    if mask.spaced:
        return encoder.tokenize([word], spaced=True)[0]
    # Sentencepiece tokenizers put a space before every text: it is taken away again, as far as
    # a word grows together with nothing before it.
    alone, joined = encoder.tokenize([".", "." + word])
    return joined[len(alone) :] if joined[: len(alone)] == alone else encoder.tokenize([word])[0]


def _complaint(encoder: Encoder, word: str, ids: Sequence[int]) -> str | None:
    if not ids:
        return f"the tokenizer makes nothing of the word {word!r}"
    if len(ids) > 1:
        pieces = " ".join(encoder.tokenizer.convert_ids_to_tokens(list(ids)))
        return f"the word {word!r} is {len(ids)} tokens here, not one: {pieces}"
    if ids[0] == encoder.tokenizer.unk_token_id:
        return f"the tokenizer does not know the word {word!r}"
    return None
