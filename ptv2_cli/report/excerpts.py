"""Parts of long texts: enough to read, with what matters in sight."""

from __future__ import annotations

import json
from typing import Any

from ptv2_cli.report.mistakes import Mistake


def columns_of(one: Mistake, hidden: tuple[str, ...], longest: int) -> dict[str, str]:
    """The columns of a row as text, without those that hold its gold answer.

    Args:
        one: a row that a run got wrong.
        hidden: columns that are left out.
        longest: characters of a text that are kept.
    """
    texts = {}
    for key, value in one.row.items():
        if key not in hidden:
            text = " ".join(one.words) if one.words and value == list(one.words) else value
            text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
            texts[key] = excerpt(text, _gold_at(one, text), longest)
    return texts


def _gold_at(one: Mistake, text: str) -> int:
    """Where the gold answer stands in a text; 0 where it does not."""
    golds: list[Any] = one.gold if isinstance(one.gold, list) and not one.words else []
    return next((at for gold in golds if gold and (at := text.find(gold)) >= 0), 0)


def excerpt(text: str, at: int, longest: int) -> str:
    """At most `longest` characters of a text, on one line, with those at `at`."""
    text = text.replace("\n", " ")
    if len(text) <= longest:
        return text
    start = max(0, min(at - longest // 2, len(text) - longest))
    cut = text[start : start + longest]
    return f"{'... ' if start else ''}{cut}{' ...' if start + longest < len(text) else ''}"
