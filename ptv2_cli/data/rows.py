"""The rows of a split, what reading them needs to know, and counts of their gold answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from ptv2_cli.config.schema import TaskSection
from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import BadRow, RawRow

SplitName = Literal["train", "validation", "test"]
Row = dict[str, Any]
"""A row under the names that its task has for its columns."""


class SourceRow(Row):
    """A row that remembers its columns as the file has them, and which of several tasks it is of.

    The task's own names can then never hide a column of the file.
    """

    __slots__ = ("source", "task")

    def __init__(
        self, row: Mapping[str, Any], source: Mapping[str, Any], task: str | None = None
    ) -> None:
        super().__init__(row)
        self.source = source
        self.task = task


def source_of(row: Row) -> Mapping[str, Any]:
    """The columns of a row as its file has them; the row itself where it was not read."""
    return row.source if isinstance(row, SourceRow) else row


@dataclass(frozen=True)
class Split:
    """The rows of one split as read, and what identifies their content."""

    rows: Sequence[Row]
    """A `RowStore`, where they were read; do not change them."""
    sha256: str
    """Of the files; of the rows if a `Reading` changed them, or rows were left out."""
    files: tuple[Path, ...] = ()
    bad: tuple[BadRow, ...] = ()
    """Rows of the files that were left out."""
    notes: tuple[str, ...] = ()
    """Warnings about what was read."""


@dataclass(frozen=True)
class Reading:
    """How the config says that files are read; None: as their first bytes show."""

    delimiter: str | None = None
    encoding: str | None = None
    skip_bad: bool = False
    """Whether rows that cannot be used are left out."""


AS_FOUND = Reading()
"""As the first bytes of each file show."""


class DataSource(Protocol):
    """Where the files of a split are: a local folder or a snapshot of the hub."""

    @property
    def reading(self) -> Reading:
        """How they are read."""

    def files(self, split: str) -> tuple[Path, ...]:
        """Files of `train`, `validation` or `test`; empty if the source has no such split."""

    def describe(self, split: str) -> str:
        """Where the split was looked for, and under which names: for messages."""


def reading_of(section: TaskSection) -> Reading:
    """How a config's `task:` says that its files are read."""
    return Reading(section.delimiter, section.encoding, section.skip_bad)


class HubSection(Section):
    """A data set on the hub, and how its columns and label names map to ours."""

    repo: str
    revision: str
    folder: str
    columns: dict[str, str] = Field(default={})
    """Our column name -> theirs, if they differ."""
    values: dict[str, str] = Field(default={})
    """Their label name -> ours, if they differ."""


class RowReader(Protocol):
    """What reading needs to know of a task."""

    name: str
    hub: HubSection | None

    def expand(self, line: RawRow) -> Iterator[RawRow]:
        """The rows that a line of a file holds."""

    def unit(self, row: Row) -> Hashable:
        """What all rows that are scored together share; None: the row is scored alone."""


SHOWN = 6
"""Answers that are named; if there are more, the others are counted."""


def counted(counts: Mapping[str, int]) -> str:
    """`yes 12, no 3`, the most frequent first; of many, the number of the others and the rarest."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    if len(ranked) > SHOWN + 1:
        (rarest, least), left = ranked[-1], len(ranked) - SHOWN
        end = f"{left} more, the rarest {rarest} {least}"
        return ", ".join([*(f"{name} {count}" for name, count in ranked[:SHOWN]), end])
    return ", ".join(f"{name} {count}" for name, count in ranked)


def look_alikes(counts: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Groups of answers, with their counts, that differ only by case or white space."""
    groups: dict[str, Counter[str]] = {}
    for name, count in counts.items():
        groups.setdefault("".join(name.split()).casefold(), Counter())[name] += count
    yield from (dict(group.most_common()) for group in groups.values() if len(group) > 1)
