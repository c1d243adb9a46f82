"""Every row of a report against a named baseline: cell by cell, and over all its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ptv2_cli.errors import InputError
from ptv2_cli.registry import METHODS
from ptv2_cli.report.cells import Cell, Report, RowKey, TableRow, TaskColumn
from ptv2_cli.report.noise import LEVEL, Contest
from ptv2_cli.report.paired import holm
from ptv2_cli.report.stratified import Stratum, cliffs_delta, hedges_g, permutation


@dataclass(frozen=True)
class CellTest:
    """A cell against the baseline's cell of the same column and backbone."""

    difference: float
    """Mean of the cell - mean of the baseline, a fraction."""
    better: bool
    """Whether the cell's mean is the better one; a lower one where the metric says so."""
    rows: float | None
    """Two-sided p of another sample of rows (McNemar, or the paired bootstrap)."""
    seeds: float | None
    """Two-sided p of other seeds (Welch); None without several on both sides."""
    g: float | None
    """Hedges' g over the seeds."""
    p: float | None = None
    """The larger p, corrected for all comparisons of the table (Holm); None: not tested."""

    @property
    def mark(self) -> str:
        """† where the cell is better than the baseline after Holm, ‡ where it is worse."""
        if self.p is None or self.p >= LEVEL:
            return ""
        return "†" if self.better else "‡"


@dataclass(frozen=True)
class RowTest:
    """A method's row against the baseline over all settings that both have."""

    key: RowKey
    """Of the row, without its backbone if it was run on several."""
    settings: int
    """Pairs of task and backbone."""
    better: int
    """Settings in which its mean is better."""
    difference: float
    """Mean over the settings of the difference of the means, a fraction; above 0: better."""
    delta: float
    """Cliff's delta, mean over the settings."""
    p: float
    """The stratified permutation test, two-sided, corrected for the number of rows (Holm)."""
    least: float
    """The smallest uncorrected p that so many runs can give."""


@dataclass(frozen=True)
class Baseline:
    """All comparisons of a report with one baseline."""

    name: str
    cells: dict[tuple[RowKey, TaskColumn], CellTest]
    rows: tuple[RowTest, ...]
    """Of the rows that share at least two settings with the baseline."""

    def mark(self, line: TableRow, column: TaskColumn) -> str:
        """The dagger of a cell; empty where there is none."""
        test = self.cells.get((line.key, column))
        return test.mark if test else ""


def against(report: Report, name: str) -> Baseline:
    """Test every row against the baseline.

    The baseline of a column and backbone is the best of the rows of that name there, so that a
    badly tuned one makes nothing look good.

    Args:
        report: the table.
        name: a method of the table, or a method and a prompt length: `prompt_tuning p20`.

    Raises:
        InputError: no row of the table has this name, or no other row shares a task with one.
    """
    own = [line for line in report.lines if name in _names(line.key)]
    if not own and name in METHODS.spellings():
        name = METHODS.canonical(name)
        own = [line for line in report.lines if name in _names(line.key)]
    if not own:
        known = dict.fromkeys(text for line in report.lines for text in _names(line.key))
        raise InputError.at("--baseline", f"no row is {name!r}", f"one of: {', '.join(known)}")
    tests: dict[tuple[RowKey, TaskColumn], CellTest] = {}
    strata: dict[RowKey, list[Stratum]] = {}
    better: dict[RowKey, int] = {}
    for backbone in dict.fromkeys(line.key.backbone for line in own):
        for column in report.columns:
            for line, test, stratum in _column(report, own, backbone, column):
                tests[line.key, column] = test
                key = line.key._replace(backbone="")
                strata.setdefault(key, []).append(stratum)
                better[key] = better.get(key, 0) + test.better
    if not tests:
        what = f"no other row has a task of {name} on the same backbone"
        raise InputError.at("--baseline", what, "name the folders of both methods' runs")
    strata = {key: pairs for key, pairs in strata.items() if len(pairs) > 1}
    raw = [permutation(pairs) for pairs in strata.values()]
    corrected = holm([test.p for test in raw])
    rows = [
        RowTest(key, len(pairs), better[key], test.difference, cliffs_delta(pairs), p, test.least)
        for (key, pairs), test, p in zip(strata.items(), raw, corrected, strict=True)
    ]
    return Baseline(name, _corrected(tests), tuple(rows))


def _names(key: RowKey) -> list[str]:
    return [key.method, *([f"{key.method} p{key.prompt_len}"] if key.prompt_len else [])]


def _column(
    report: Report, own: Sequence[TableRow], backbone: str, column: TaskColumn
) -> Iterator[tuple[TableRow, CellTest, Stratum]]:
    """The tests of one column and backbone, p not yet corrected."""
    base = [cell for line in own if line.key.backbone == backbone for cell in _scored(line, column)]
    others = [
        (line, cell)
        for line in report.lines
        if line.key.backbone == backbone and line not in own
        for cell in _scored(line, column)
    ]
    if not base or not others:
        return
    sign = -1 if base[0].lower_is_better else 1
    best = max(base, key=lambda cell: sign * (cell.mean or 0.0))
    settings = [best.scored, *(cell.scored for _, cell in others)]
    verdicts = Contest(settings, 0, column.split, column.metric).verdicts()[1:]
    for (line, cell), verdict in zip(others, verdicts, strict=True):
        difference = (cell.mean or 0.0) - (best.mean or 0.0)
        known = [p for p in (verdict.rows, verdict.seeds) if p is not None]
        g = hedges_g(cell.values, best.values)
        better = sign * difference > 0
        p = max(known, default=None)
        test = CellTest(difference, better, verdict.rows, verdict.seeds, g, p)
        stratum = [sign * x for x in cell.values], [sign * x for x in best.values]
        yield line, test, stratum


def _scored(line: TableRow, column: TaskColumn) -> list[Cell]:
    cell = line.cells.get(column)
    return [cell] if cell is not None and cell.mean is not None else []


def _corrected(
    tests: dict[tuple[RowKey, TaskColumn], CellTest],
) -> dict[tuple[RowKey, TaskColumn], CellTest]:
    """The tests with p corrected for all of them."""
    tested = {key: test.p for key, test in tests.items() if test.p is not None}
    corrected = dict(zip(tested, holm([*tested.values()]), strict=True))
    return {key: replace(test, p=corrected.get(key)) for key, test in tests.items()}
