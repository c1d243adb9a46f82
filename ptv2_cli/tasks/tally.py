"""How often each gold answer stands in rows, and answers that look like one meant twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

SHOWN = 6
"""Answers that are named; of more the others are counted."""


def counted(counts: Mapping[str, int]) -> str:
    """`yes 12, no 3`, the most frequent first; of many, how many more there are and the rarest."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    if len(ranked) > SHOWN + 1:
        (rarest, least), left = ranked[-1], len(ranked) - SHOWN
        end = f"{left} more, the rarest {rarest} {least}"
        return ", ".join([*(f"{name} {count}" for name, count in ranked[:SHOWN]), end])
    return ", ".join(f"{name} {count}" for name, count in ranked)


def look_alikes(counts: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Groups of answers, with their counts, that differ by case or white space alone."""
    groups: dict[str, Counter[str]] = {}
    for name, count in counts.items():
        groups.setdefault("".join(name.split()).casefold(), Counter())[name] += count
    yield from (dict(group.most_common()) for group in groups.values() if len(group) > 1)
