"""Sentences about scores: the best setting of each method, and how far the others are behind."""

from __future__ import annotations

from collections.abc import Iterator

from ptv2_cli.report.baseline import Baseline, RowTest
from ptv2_cli.report.cells import Cell, Report, TableRow, TaskColumn
from ptv2_cli.report.describe_words import method_name, metric_name, task_name
from ptv2_cli.report.english import counted, listed, number
from ptv2_cli.report.noise import LEVEL
from ptv2_cli.report.table import short_backbone
from ptv2_cli.report.text_table import p_value, percent

Best = tuple[TableRow, Cell, int]
"""A row, its cell, and how many settings of its method and backbone there are."""


def result_sentences(report: Report) -> Iterator[str]:
    """For each task the best setting of each method, the majority baseline behind it."""
    for column in report.columns:
        best = _best(report, column)
        if not best:
            continue
        texts = [_score(report, *item) for item in best]
        metric = metric_name(column.metric)
        what = f"on {task_name(report, column)} ({metric} times 100), {listed(texts)}"
        majority = report.majority(column)
        if majority is not None:
            what += f"; the majority baseline has {percent(majority)}"
        yield what


def _best(report: Report, column: TaskColumn) -> list[Best]:
    """The best setting of each method and backbone, the best method first."""
    groups: dict[tuple[str, str], list[tuple[TableRow, Cell]]] = {}
    for line in report.lines:
        cell = line.cells.get(column)
        if cell is not None and cell.mean is not None:
            groups.setdefault((line.key.backbone, line.key.method), []).append((line, cell))
    found: list[Best] = []
    for cells in groups.values():
        sign = -1 if cells[0][1].lower_is_better else 1
        line, cell = max(cells, key=lambda item: sign * (item[1].mean or 0.0))
        found.append((line, cell, len(cells)))
    sign = -1 if found and found[0][1].lower_is_better else 1
    return sorted(found, key=lambda item: -sign * (item[1].mean or 0.0))


def _score(report: Report, line: TableRow, cell: Cell, settings: int) -> str:
    text = method_name(line.key.method, cited=False)
    if line.key.prompt_len:
        text += f" with {counted(line.key.prompt_len, 'token')}"
    if len({other.key.backbone for other in report.lines}) > 1:
        text += f" on {short_backbone(line.key.backbone)}"
    text += f" reaches {percent(cell.mean)}"
    if cell.sd is not None:
        text += f" ± {percent(cell.sd)}"
    facts = [f"the best of {counted(settings, 'setting')}"] if settings > 1 else []
    if len(report.counts) > 1:
        facts.append(counted(len(cell.values), "run"))
    verdict = cell.verdict
    if verdict is not None and not verdict.best and verdict.p is not None:
        noise = "within the noise of the best" if verdict.p >= LEVEL else "worse than the best"
        facts.append(f"{noise}, {_p(verdict.p)}")
    return f"{text} ({'; '.join(facts)})" if facts else text


def test_sentences(report: Report, baseline: Baseline | None) -> Iterator[str]:
    """How differences were tested, and the tests over all settings against a baseline."""
    cells = [cell for column in report.columns for cell in report.cells(column)]
    tested = [cell.verdict for cell in cells if cell.verdict and cell.verdict.p is not None]
    if tested:
        over = []
        if any(verdict.rows is not None for verdict in tested):
            over.append("over rows by McNemar's exact test or the paired bootstrap")
        if any(verdict.seeds is not None for verdict in tested):
            over.append("over seeds by Welch's t-test")
        larger = ", of which the larger p counts," if len(over) > 1 else ","
        yield (
            f"differences from the best of a task are tested {listed(over)}{larger} "
            "with Holm's correction for all settings of the task"
        )
    if baseline is None:
        return
    backbones = {line.key.backbone for line in report.lines}
    one, many = ("task", "tasks") if len(backbones) == 1 else ("pair", "pairs of task and backbone")
    for test in baseline.rows:
        yield _against(test, baseline, many)
    if baseline.rows:
        subject = "this test permutes" if len(baseline.rows) == 1 else "these tests permute"
        yield (
            f"{subject} the methods' names within each {one}, over its seeds, with "
            f"Holm's correction for {counted(len(baseline.rows), 'comparison')}"
        )


def _against(test: RowTest, baseline: Baseline, shared: str) -> str:
    name = method_name(test.key.method, cited=False)
    if test.key.prompt_len:
        name += f" with {counted(test.key.prompt_len, 'token')}"
    if test.key.setting:
        name += f" ({test.key.setting})"
    rival = method_name(baseline.name, cited=False)
    points = abs(100 * test.difference)
    where = "above" if test.difference >= 0 else "below"
    return (
        f"over {number(test.settings)} {shared}, {name} is on average {points:.1f} "
        f"{'point' if f'{points:.1f}' == '1.0' else 'points'} {where} {rival} "
        f"({_p(test.p)}; Cliff's delta {test.delta:+.2f})"
    )


def _p(value: float) -> str:
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
