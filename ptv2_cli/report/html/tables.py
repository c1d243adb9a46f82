"""The table of settings and the table of runs, as their templates need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptv2_cli.report.cells import Cell, Report
from ptv2_cli.report.html.shown_runs import ShownRun
from ptv2_cli.report.noise import Verdict
from ptv2_cli.report.table import MARKS, share, short_backbone
from ptv2_cli.report.text_table import memory, percent, seconds

WORDS = {"best": "best", "noise": "within the noise of the best", "untested": "not tested"}
"""What a mark means, for those who do not see it."""


@dataclass(frozen=True)
class Heading:
    """A column's heading."""

    text: str
    figure: bool = False
    """Whether the column holds figures, which stand right and sort as numbers."""
    task: int | None = None
    """The report's column that it is, if it is one."""
    note: str = ""
    """A second line."""


@dataclass(frozen=True)
class Field:
    """A cell of a table."""

    text: str
    value: float | None = None
    """What a column of figures is sorted by."""
    task: int | None = None
    run: str = ""
    """The entry that the text opens."""
    more: str = ""
    """Stands after the text: the spread, the number of seeds."""
    mark: str = ""
    meaning: str = ""
    """The mark in words."""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A row, and what it is filtered by."""

    fields: Sequence[Field]
    method: str
    tasks: str
    """The report's columns that it has scores of, with spaces around each."""
    text: str
    """What the text filter looks at, in lower case."""
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted and filtered."""

    name: str
    caption: str
    headings: Sequence[Heading]
    rows: Sequence[Row]
    below: Sequence[Sequence[Field]] = ()
    """Rows that stay below: the majority baseline, the standard error."""


def settings_table(report: Report, entries: Sequence[ShownRun], caption: str) -> Table:
    """Settings down, tasks across: `ptv2 report` with a link to the runs of each cell."""
    marks: dict[int, str] = {}
    for entry in entries:
        marks.setdefault(id(entry.cell), entry.mark)
    backbones = len({line.key.backbone for line in report.lines}) > 1
    lengths = any(line.key.prompt_len for line in report.lines)
    settings = any(line.key.keys for line in report.lines)
    headings = [Heading("backbone")] * backbones + [Heading("method")]
    headings += [Heading("prompt", True)] * lengths + [Heading("setting")] * settings
    labels = len(headings)
    for at, column in enumerate(report.columns):
        headings.append(Heading(report.names[column], True, at, column.metric))
    headings += [Heading("average", True)] * report.averages
    headings += [Heading("KL elsewhere", True)] * bool(report.texts)
    headings += [Heading("trainable %", True), Heading("time", True), Heading("memory", True)]
    rows = []
    for line in report.lines:
        key = line.key
        fields = [Field(short_backbone(key.backbone))] * backbones + [Field(key.method)]
        fields += [Field(str(key.prompt_len or "-"), key.prompt_len)] * lengths
        fields += [Field(key.setting or "-")] * settings
        for at, column in enumerate(report.columns):
            fields.append(_score(line.cells.get(column), at, report, marks))
        if report.averages:
            average = line.average(report.common)
            fields.append(Field(percent(average), average))
        if report.texts:
            kl = line.retention
            fields.append(Field("-" if kl is None else f"{kl:.3f}", kl))
        time, peak = line.seconds(report.common), line.peak_bytes(report.common)
        fields += [Field(share(line), line.trainable_percent[1]), Field(seconds(time), time)]
        fields.append(Field(memory(peak), peak))
        own = [at for at, column in enumerate(report.columns) if column in line.cells]
        words = (key.method, key.backbone, f"p{key.prompt_len or 0}", key.setting)
        rows.append(Row(fields, key.method, f" {' '.join(map(str, own))} ", _text(words)))
    return Table("settings", caption, headings, rows, _below(report, headings, labels))


def runs_table(report: Report, entries: Sequence[ShownRun]) -> Table:
    """Every run with its score and its directory."""
    backbones = len({line.key.backbone for line in report.lines}) > 1
    lengths = any(line.key.prompt_len for line in report.lines)
    settings = any(line.key.keys for line in report.lines)
    headings = [Heading("run"), Heading("task")] + [Heading("backbone")] * backbones
    headings += [Heading("method")] + [Heading("prompt", True)] * lengths
    headings += [Heading("setting")] * settings
    headings += [Heading("seed", True), Heading("score", True), Heading("standard error", True)]
    headings += [Heading("time", True), Heading("state"), Heading("ended"), Heading("directory")]
    rows = []
    for entry in entries:
        run, key = entry.run, entry.line.key
        time = None if run.imported else float(run.metrics["timing"]["train_seconds"])
        fields = [Field(run.name, run=entry.mark), Field(report.names[entry.column])]
        fields += [Field(entry.backbone)] * backbones + [Field(key.method)]
        fields += [Field(str(key.prompt_len or "-"), key.prompt_len)] * lengths
        fields += [Field(entry.setting or "-")] * settings
        fields += [
            Field(str(run.seed), run.seed),
            Field(percent(entry.score), entry.score),
            Field(percent(entry.error), entry.error),
            Field(seconds(time), time),
            Field(str(run.metrics["status"]).replace("_", " ")),
            Field(entry.ended[:16].replace("T", " ")),
            Field(str(run.directory.path)),
        ]
        words = (run.name, key.method, key.backbone, entry.setting, f"s{run.seed}")
        rows.append(Row(fields, key.method, f" {entry.at} ", _text(words), entry.mark))
    return Table("runs", "All finished runs", headings, rows)


def _score(cell: Cell | None, at: int, report: Report, marks: Mapping[int, str]) -> Field:
    if cell is None:
        return Field("-", task=at)
    run = marks.get(id(cell), "")
    if cell.mean is None:
        return Field("diverged", task=at, run=run)
    more = "" if cell.sd is None else f"±{percent(cell.sd)}"
    more += f" ({len(cell.values)})" if len(report.counts) > 1 else ""
    mark, meaning = _marked(cell.verdict)
    if cell.stuck:
        mark, meaning = f"{mark}!", f"{meaning}, one answer to all rows".removeprefix(", ")
    best = cell.verdict is not None and cell.verdict.best
    return Field(percent(cell.mean), cell.mean, at, run, more, mark, meaning, best)


def _marked(verdict: Verdict | None) -> tuple[str, str]:
    word = verdict.word if verdict else ""
    return MARKS.get(word, ""), WORDS.get(word, "")


def _below(report: Report, headings: Sequence[Heading], labels: int) -> list[list[Field]]:
    rows = []
    for name, figure in (("majority baseline", report.majority), ("standard error", report.error)):
        values = [figure(column) for column in report.columns]
        if any(value is not None for value in values):
            fields = [Field(name), *[Field("")] * (labels - 1)]
            fields += [Field(percent(value), task=at) for at, value in enumerate(values)]
            rows.append([*fields, *[Field("")] * (len(headings) - len(fields))])
    return rows


def _text(words: Sequence[object]) -> str:
    return " ".join(str(word) for word in words).lower()
