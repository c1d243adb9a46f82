"""Brackets of the CoNLL shared tasks - `(A0*`, `*`, `*)`, one for each word - to BIO tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ptv2_cli.errors import DataError

_BRACKET = re.compile(r"((?:\([^()*\s]+)*)\*((?:[^()*\s]*\))*)")
_HINT = "(TYPE* begins a span, * goes on with it, *) ends it, (TYPE*) is a span of one word"


def bracket_tags(values: Sequence[str], where: Callable[[int], str]) -> list[str]:
    """The BIO tags of a column of brackets, in which no span stands inside another.

    Args:
        values: the column over the words of one sentence. `*TYPE)` may end a span as `*)` does.
        where: the place of a word's line, by the word's index, for messages.

    Raises:
        DataError: a value that is no bracket, or brackets that do not pair.
    """
    tags: list[str] = []
    kind, opened = "", 0
    for index, value in enumerate(values):
        begun, ended = _parts(value, where(index))
        if begun and (kind or len(begun) > 1):
            what = f"{value!r} begins a span inside {kind or begun[0]}"
            raise DataError.at(where(index), what, "spans of one column stand side by side")
        if begun:
            kind, opened = begun[0], index
        tags.append(f"{'B' if begun else 'I'}-{kind}" if kind else "O")
        if len(ended) > bool(kind):
            raise DataError.at(where(index), f"{value!r} ends a span that nothing began", _HINT)
        if ended and ended[0] not in {"", kind}:
            raise DataError.at(where(index), f"{value!r} ends a span of {kind}", _HINT)
        kind = "" if ended else kind
    if kind:
        what = f"the span ({kind}* that begins here does not end in its sentence"
        raise DataError.at(where(opened), what, _HINT)
    return tags


def _parts(value: str, where: str) -> tuple[list[str], list[str]]:
    """The types that begin at a word, and those (mostly not named) that end there."""
    found = _BRACKET.fullmatch(value)
    if found is None:
        raise DataError.at(where, f"{value!r} is no bracket", _HINT)
    return found[1].split("(")[1:], found[2].split(")")[:-1]
