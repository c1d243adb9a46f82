"""Conversations as tokens: what is left out where one is too long, and the answer that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptv2_cli.errors import UnfitRow
from ptv2_cli.inputs.chat import WHERE, ChatTemplate, Message, Refused
from ptv2_cli.inputs.encoder import Encoder

SHOWN = 60
"""Characters of a message that an error shows."""


@dataclass(frozen=True)
class Turn:
    """A conversation as tokens, and the answer to it."""

    ids: list[int]
    answer: list[int] | None
    """With the token that ends it; None: the row has none."""
    cut: bool
    """Whether text was left out."""


def encode_turn(
    row: Mapping[str, Any],
    messages: Sequence[Message],
    answer: str | None,
    encoder: Encoder,
) -> Turn:
    """A conversation in at most `max_len` tokens, and its answer.

    Where it is too long, the oldest text goes: whole messages before the last question, a system
    or developer message at the start excepted; then the beginning of the question; then that of
    the system message.

    Raises:
        UnfitRow: the template refuses the messages, or has no room for any text.
    """
    chat = encoder.chat
    assert chat is not None
    try:
        kept, ids = _fitted(messages, encoder, chat)
        if ids is None:
            raise UnfitRow.of(
                row,
                "task.max_len",
                f"{encoder.max_len} tokens beside the answer have no room for the signs of the "
                "chat template",
                "raise task.max_len, or write a smaller generate.max_new_tokens",
            )
        if answer is None:
            return Turn(ids, None, kept != list(messages))
        question = chat.question(kept)
        rest = chat.answer(kept, question, answer)
        whole = encoder.tokenize([question + rest])[0]
    except Refused as error:
        last = str(messages[-1]["content"])
        shown = repr(last if len(last) <= SHOWN else f"{last[:SHOWN]}...")
        what = f"the chat template of {chat.backbone} refuses messages up to {shown}: {error}"
        hint = "correct the row's messages, or write input: and output: columns"
        raise UnfitRow.of(row, WHERE, what, hint) from error
    # The question's tokens must be those that the model sees when it is asked.
    same = whole[: len(ids)] == ids
    written = whole[len(ids) :] if same else encoder.tokenize([rest])[0]
    return Turn(ids, _ended(written, encoder.end_ids), kept != list(messages))


def _ended(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to the last one that ends an answer, which is added where there is none."""
    last = max((at for at, token in enumerate(ids) if token in ends), default=None)
    return [*ids, ends[0]] if last is None else ids[: last + 1]


def _fitted(
    messages: Sequence[Message], encoder: Encoder, chat: ChatTemplate
) -> tuple[list[Message], list[int] | None]:
    """The messages that are kept, and their tokens; None: not even the template's signs fit."""

    def tokens(some: Sequence[Message]) -> list[int]:
        return encoder.tokenize([chat.question(some)])[0]

    kept = list(messages)
    ids = tokens(kept)
    if len(ids) <= encoder.max_len:
        return kept, ids
    first = 1 if kept[0]["role"] in {"system", "developer"} else 0
    # A conversation begins with the user, and many templates insist on it.
    starts = [at for at in range(first + 1, len(kept)) if kept[at]["role"] == "user"]
    for start in starts:
        shorter = [*kept[:first], *kept[start:]]
        ids = tokens(shorter)
        if len(ids) <= encoder.max_len:
            return shorter, ids
    kept = [*kept[:first], *kept[starts[-1] if starts else first :]]
    for at in [*range(first, len(kept)), *range(first)]:
        while len(ids) > encoder.max_len and kept[at]["content"]:
            shortened = _without_start(kept[at]["content"], len(ids) - encoder.max_len, encoder)
            kept[at] = {**kept[at], "content": shortened}
            ids = tokens(kept)
        if len(ids) <= encoder.max_len:
            return kept, ids
    return kept, None


def _without_start(text: str, count: int, encoder: Encoder) -> str:
    """A text without its first `count` tokens."""
    offsets = encoder.tokenize_with_offsets([text]).offsets
    rest = text[int(offsets[count - 1, 1]) :].lstrip() if count < len(offsets) else ""
    return rest if len(rest) < len(text) else ""
