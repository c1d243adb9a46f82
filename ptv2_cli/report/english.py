"""Words for counts and lists, in sentences that a program fills in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_WORDS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
)


def number(count: int) -> str:
    """`three`; figures from 13 on, with a comma for thousands."""
    return _WORDS[count] if count < len(_WORDS) else f"{count:,}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """`one run`, `three runs`, `250 rows`."""
    return f"{number(count)} {noun if count == 1 else plural or noun + 's'}"


def listed(items: Iterable[str], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`; equal items once."""
    texts = list(dict.fromkeys(items))
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} {word} {texts[-1]}"


def span(values: Sequence[float], form: str = "{:g}", unit: str = "") -> str:
    """`20 tokens` or `20 to 100 tokens`: the least and the most of values."""
    low, high = (form.format(value) for value in (min(values), max(values)))
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."
