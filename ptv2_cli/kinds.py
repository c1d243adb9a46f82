"""The kinds of task, and what other parts need to know of each."""

from __future__ import annotations

from typing import Literal

Kind = Literal["sequence", "regression", "choice", "token", "span"]
PER_ROW: frozenset[Kind] = frozenset({"sequence", "regression", "choice"})
"""Kinds whose head reads one pooled vector of each input."""
CLASSED: frozenset[Kind] = frozenset({"sequence", "choice"})
"""Kinds whose answer to a row is one label, right or wrong."""
ANSWER: dict[Kind, str] = {
    "sequence": "label",
    "regression": "prediction",
    "choice": "label",
    "token": "tags",
    "span": "answer",
}
"""The key of a prediction line that holds the answer."""
