"""Scores that others have published, read from `published.yaml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FILE = Path(__file__).with_name("published.yaml")
MULTI = "multi"
"""P-tuning v2 that was trained on several tasks at once."""


class PublishedColumn(NamedTuple):
    """A column of a published table, and which score of a run belongs into it."""

    name: str
    task: str
    metric: str
    split: str
    corpus: str | None = None
    """A part of the split that is scored by itself."""


class PublishedRow(NamedTuple):
    """One row of a published table."""

    source: str
    backbone: str
    method: str
    scores: tuple[float | None, ...]
    """Fractions, as the columns; None where the score is not known here."""


class PublishedTable(NamedTuple):
    """A table of the paper."""

    name: str
    title: str
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]
    figure: tuple[str, ...]
    """Names of the columns whose mean figure 1 shows; empty where it shows none."""


class Published(NamedTuple):
    """All published scores."""

    sources: dict[str, str]
    """Short name of a source -> where its scores come from, and how far they are checked."""
    parameters: dict[str, float]
    """Backbone -> number of its parameters, in the paper's order."""
    names: dict[str, str]
    """A backbone's name in a config -> its name in the paper."""
    methods: dict[str, str]
    """Method -> its name in a table, in the paper's order."""
    tables: tuple[PublishedTable, ...]


@cache
def published() -> Published:
    """What `published.yaml` says."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    backbones = content["backbones"]
    return Published(
        sources={name: " ".join(text.split()) for name, text in content["sources"].items()},
        parameters={name: float(item["parameters"]) for name, item in backbones.items()},
        names={own: name for name, item in backbones.items() for own in item["names"]},
        methods=content["methods"],
        tables=tuple(map(_table, content["tables"])),
    )


def _table(item: dict[str, Any]) -> PublishedTable:
    rows = [
        PublishedRow(
            source,
            backbone,
            method,
            tuple(None if value is None else round(value / 100, 6) for value in values),
        )
        for source, backbones in item["scores"].items()
        for backbone, methods in backbones.items()
        for method, values in methods.items()
    ]
    columns = tuple(PublishedColumn(**column) for column in item["columns"])
    return PublishedTable(
        item["name"], item["title"], columns, tuple(rows), tuple(item.get("figure", ()))
    )
