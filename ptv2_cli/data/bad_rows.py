"""Bad rows of a data set: all named in one error, up to a limit, or left out and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from ptv2_cli.data.formats import BadRow, RawRow, Record, tried
from ptv2_cli.errors import DataError, Problem

SHOWN = 10
"""Bad rows that an error names."""
T = TypeVar("T")


class BadRows:
    """The bad rows of some files as they are met: left out, or named together in one error."""

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.rows: list[BadRow] = []
        """Those that are left out."""
        self._shown: list[Problem] = []
        self._seen: set[int] = set()
        """Hashes of their errors: a column that is missing from a header is missing once."""

    def without(self, records: Iterable[Record], make: Callable[[RawRow], T]) -> Iterator[T]:
        """What `make` gives of each record that is good."""
        for record in records:
            found = record
            if not isinstance(record, BadRow):
                made = tried(partial(make, record), record.number, record.values)
                if not isinstance(made, BadRow):
                    yield made
                    continue
                found = made
            assert isinstance(found, BadRow)
            self._note(found)

    def settle(self, files: Sequence[Path], good: Sequence[object]) -> None:
        """To be called when all is read.

        Raises:
            DataError: bad rows were not to be left out, or are all there is.
        """
        if self.skip:
            if self.rows and not good:
                what = f"no row of {len(self.rows)} can be used"
                raise DataError(Problem(", ".join(map(str, files)), what), *self._shown[:1])
            return
        if self._seen:
            raise DataError(*self.told(files))

    def told(self, files: Sequence[Path]) -> list[Problem]:
        """The bad rows, `SHOWN` at most, and how many there are."""
        more, count = len(self._seen) - len(self._shown), len(self._seen)
        told = [*self._shown]
        if count > 1:
            what = f"and {more:,} more bad rows" if more else f"{count} bad rows"
            hint = "mend them; or ptv2 train --skip-bad leaves bad rows out and counts them"
            told.append(Problem(", ".join(map(str, files)), what, hint))
        return told

    def _note(self, bad: BadRow) -> None:
        problem = bad.error.problems[0]
        key = hash((problem.where, problem.what))
        if key not in self._seen:
            self._seen.add(key)
            if len(self._shown) < SHOWN:
                self._shown.append(problem)
        if self.skip:
            self.rows.append(bad)
