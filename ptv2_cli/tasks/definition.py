"""What a task's YAML file says: its shape, its columns, its labels and its metrics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptv2_cli.config.section import Section
from ptv2_cli.data.rows import HubSection, SplitName
from ptv2_cli.inputs.features import Truncation


class JoinerSection(Section):
    """A word after the text that another column tells: `because` where COPA asks for a cause."""

    column: str
    words: dict[str, str]
    """Value of the column -> the word."""


class PlaceSection(Section):
    """Where something stands in a text: a word, or characters [start, end)."""

    text: str
    """The column of the text."""
    start: str
    """The column of the word's index, from 0; with `end`, of the first character's."""
    end: str | None = None
    """The column of the index after the last character."""


class VerbalizerSection(Section):
    """The words and the template that a language model's own head answers with."""

    template: str
    words: dict[str, str]
    """Label -> the word that stands for it."""


class Definition(Section):
    """One task of a known shape."""

    shape: str = ""
    """Name in `catalog.SHAPES`; of no meaning where a class from outside has this definition."""
    version: int
    """Raised whenever the same data would score differently."""
    text: tuple[str, ...] = Field(strict=False)
    choices: tuple[str, ...] = Field(default=(), strict=False)
    """Choice: the columns of the choices in order, or the one that lists them."""
    joiner: JoinerSection | None = None
    """Choice: what stands between the text and each choice."""
    templates: dict[str, dict[str, str]] = Field(default={})
    """Ways to write the input by name, the default first: input column -> its text, in which
    `{column}` is a text column."""
    nested: str | None = None
    """The column of an object whose values are columns of the row."""
    places: tuple[PlaceSection, ...] = Field(default=(), strict=False)
    """Indices that rows may carry, which must be ones of their texts."""
    label: str
    labels: tuple[str, ...] = Field(default=(), strict=False)
    values: dict[str, str] = Field(default={})
    """Label names of the official files -> ours, where they differ."""
    metrics: tuple[str, ...] = Field(strict=False)
    metric: str
    report: tuple[SplitName, ...] = Field(strict=False)
    max_len: int | None
    truncation: Truncation = "longest_first"
    layout: Literal["conll", "entities_2012", "roles_2005", "roles_2012"] = "conll"
    """Tagging: what the columns of its files are; see `readers.COLUMNS`."""
    roles: str | None = None
    """Semantic roles: the pattern of a role's name."""
    role_names: str = ""
    """Semantic roles: the same in words."""
    no_answer: bool = False
    """Question answering: some questions have no answer."""
    hub: HubSection | None = None
    verbalizer: VerbalizerSection | None = None
    """What `head: verbalizer` uses unless the config says otherwise."""
