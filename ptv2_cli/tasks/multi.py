"""Several tasks of one kind as one: they share prompts, each has its own head and scores.

Multi-task learning of P-tuning v2 (arXiv 2110.07602, section 3.2): `tasks: [A, B]` in a config.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np
from pydantic import Field

from ptv2_cli.config.schema import TaskSection
from ptv2_cli.config.section import Section
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.row_store import RowStore
from ptv2_cli.data.rows import AS_FOUND, DataSource, Reading, Row, SourceRow, Split, source_of
from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Feature
from ptv2_cli.inputs.table_builder import TableBuilder
from ptv2_cli.kinds import Kind
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task
from ptv2_cli.tasks.definition import Definition

T = TypeVar("T")
TASK = "task"
"""The key of a row that names its task."""


def task_of_row(row: Mapping[str, Any]) -> Any:
    """The name of a row's task; a column of its file may be called `task` too."""
    known = row.task if isinstance(row, SourceRow) else None
    return known or row.get(TASK)


class MultiOptions(Section):
    """The tasks, as a config's `task:` would say each, and how their batches mix."""

    tasks: tuple[TaskSection, ...] = Field(
        strict=False, description="the tasks, two or more, each as task: says one"
    )
    mixing: Literal["proportional", "even"] = Field(
        "proportional",
        description="batches of an epoch: as many of each task as it has rows for, or evenly",
    )


@dataclass(frozen=True)
class MultiSource:
    """A source for each task."""

    sources: tuple[DataSource, ...]
    reading: Reading = AS_FOUND
    """Nothing: each source has its own."""

    def files(self, split: str) -> tuple[Path, ...]:
        """All files of a split, none unless every task has it."""
        found = [source.files(split) for source in self.sources]
        return tuple(path for files in found for path in files) if all(found) else ()

    def describe(self, split: str) -> str:
        """What each source says."""
        return "; ".join(source.describe(split) for source in self.sources)


@dataclass(frozen=True)
class Share:
    """One of the tasks, and the places of its rows among those of all."""

    name: str
    part: Task
    places: list[int]

    def of(self, items: Sequence[T]) -> list[T]:
        """Its own of a list with an item for each row."""
        return [items[at] for at in self.places]

    def named(self, values: Mapping[str, T]) -> dict[str, T]:
        """Its values under `NAME.key`."""
        return {f"{self.name}.{key}": value for key, value in values.items()}


class MultiTask(Task):
    """Rows `{task: NAME, ...}` of all its tasks, one task after another.

    Metrics are `NAME.metric` and their `mean` over the tasks' main metrics.
    """

    kind: ClassVar[Kind] = "sequence"
    """That of its tasks, once it is made."""
    options_model: ClassVar[type[Section]] = MultiOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.options: MultiOptions = cast(MultiOptions, options)
        sections = self.options.tasks
        if len(sections) < 2:
            raise ConfigError.at("tasks", "one task alone shares nothing", "write task: instead")
        self.parts = tuple(load_task(section.name, section.options) for section in sections)
        alone = [key for section in sections for key in _alone(section)]
        if alone:
            raise ConfigError.at(
                "tasks",
                f"{alone[0]} cannot be set for one of several tasks",
                "leave it out, or train on that task alone",
            )
        writer = next((part.name for part in self.parts if part.kind_spec.writes), None)
        if writer is not None:
            raise ConfigError.at(
                "tasks",
                f"{writer} is answered by the backbone's own language-model head, and tasks of one "
                "run have a new head each",
                f"train {writer} in a run of its own",
            )
        kinds = {part.kind: part.name for part in self.parts}
        if len(kinds) > 1:
            raise ConfigError.at(
                "tasks",
                "tasks of one run are of one kind: "
                + ", ".join(f"{task} has a {kind} head" for kind, task in kinds.items()),
                "train runs of different kinds apart; init: {run: DIR} passes a prompt on",
            )
        (self.kind,) = kinds  # type: ignore[misc]
        self.mixing = self.options.mixing
        self._widths: list[int] = []
        self.names = _names([part.name for part in self.parts])
        self.labels = tuple(dict.fromkeys(label for part in self.parts for label in part.labels))
        self.columns = self.parts[0].columns
        named = list(zip(self.names, self.parts, strict=True))
        self.metrics = ("mean", *(f"{name}.{m}" for name, part in named for m in part.metrics))
        self.further_metrics = tuple(f"{n}.{m}" for n, part in named for m in part.further_metrics)
        reports = {part.report for part in self.parts}
        self.report = reports.pop() if len(reports) == 1 else ("validation",)

    def measuring(self, metric: str) -> Task:
        """With `NAME.metric` among those of its task; see Task.measuring."""
        name, _, own = metric.partition(".")
        if metric in self.metrics or name not in self.names:
            return self
        at = self.names.index(name)
        sections = list(self.options.tasks)
        options = self.parts[at].measuring(own).options
        sections[at] = _section(sections[at], options)
        return self.with_options(tasks=tuple(sections))

    def undefined(self, rows: Sequence[Row]) -> dict[str, str]:
        """Those of its tasks on their own rows, under their names."""
        found = (share.named(share.part.undefined(share.of(rows))) for share in self._shares(rows))
        return dict(item for one in found for item in one.items())

    @property
    def identity(self) -> dict[str, Any]:
        """Its own, and those of its tasks."""
        return {
            "name": f"{self.name}: {' + '.join(self.names)}",
            "version": self.version,
            "tasks": [
                {**part.identity, "as": name, "metric": part.metric}
                for name, part in zip(self.names, self.parts, strict=True)
            ],
        }

    @property
    def tunes(self) -> bool:
        """Whether one of them does."""
        return any(part.tunes for part in self.parts)

    def part(self, number: int) -> Task:
        """The task of a feature's or a batch's `task`."""
        return self.parts[number]

    def open(self, section: TaskSection, offline: bool) -> DataSource:
        """The sources of all."""
        pairs = zip(self.parts, self.options.tasks, strict=True)
        skip = section.skip_bad
        sections = [
            (part, own.model_copy(update={"skip_bad": own.skip_bad or skip})) for part, own in pairs
        ]
        return MultiSource(tuple(part.open(own, offline) for part, own in sections))

    def settle(self, source: DataSource) -> Task:
        """Each settled on its own train data."""
        settled = [part.settle(own) for part, own in zip(self.parts, _sources(source), strict=True)]
        sections = [
            _section(
                section,
                part.options,
                max_len=section.max_len or part.max_len,
                truncation=section.truncation or part.truncation,
            )
            for section, part in zip(self.options.tasks, settled, strict=True)
        ]
        return self.with_options(tasks=tuple(sections))

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """The rows of all, each with its task's name; `limit` is for each."""
        splits = [
            part.read(own, split, getattr(section.limit, split, None) or limit)
            for part, own, section in zip(
                self.parts, _sources(source), self.options.tasks, strict=True
            )
        ]
        rows = RowStore(
            SourceRow({TASK: name, **row}, source_of(row), name)
            for name, found in zip(self.names, splits, strict=True)
            for row in found.rows
        )
        files = tuple(path for found in splits for path in found.files)
        bad = tuple(row for found in splits for row in found.bad)
        notes = tuple(note for found in splits for note in found.notes)
        return Split(rows, "+".join(found.sha256 for found in splits), files, bad, notes)

    @property
    def classed(self) -> bool:
        """Whether each of them is."""
        return all(part.classed for part in self.parts)

    def unit(self, row: Row) -> Hashable:
        """As its own task has it."""
        unit = self.part_of(row).unit(row)
        return None if unit is None else (task_of_row(row), unit)

    def part_of(self, row: Row) -> Task:
        """The task that the row names."""
        return self._part_of(row, self.name)

    def gold(self, row: Row) -> Any:
        """As its own task has it."""
        return self.part_of(row).gold(row)

    def answer(self, line: Mapping[str, Any]) -> Any:
        """As its own task has it."""
        return self._part_of(line, self.name).answer(line)

    def labelled(self, line: Mapping[str, Any]) -> Row:
        """As its own task has it."""
        row = self._part_of(line, self.name).labelled(line)
        return SourceRow({TASK: line[TASK], **row}, line["row"], line[TASK])

    def expand(self, line: RawRow) -> Iterator[RawRow]:
        """As its own task has it."""
        part, own = self._own(line)
        for item in part.expand(own):
            yield replace(item, values={TASK: line.values[TASK], **item.values})

    def _row(self, line: RawRow) -> Row:
        part, own = self._own(line)
        return {TASK: line.values[TASK], **part._row(own)}

    def new_row(self, line: RawRow) -> Row:
        """A row of the task that its column `task` names."""
        part, own = self._own(line)
        return SourceRow({TASK: line.values[TASK], **part.new_row(own)}, line.values)

    def _own(self, line: RawRow) -> tuple[Task, RawRow]:
        """The task that a row as read names, and the row without that name."""
        values = {key: value for key, value in line.values.items() if key != TASK}
        return self._part_of(line.values, line.where), replace(line, values=values)

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
        """Each by its own task, within its own `max_len` where that is shorter."""
        builder = TableBuilder()
        for number, share in enumerate(self._shares(rows)):
            section, part = self.options.tasks[number], share.part
            own = encoder.limited(
                section.max_len or part.max_len, section.truncation or part.truncation
            )
            table = FeatureTable.of(part.encode(share.of(rows), own)).of_task(number)
            builder.add(table.of_rows(np.array(share.places, np.int32)[table.rows]), 0)
        table = builder.build()
        return table.take(np.argsort(table.rows, kind="stable"))

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """Each by its own task."""
        lines: list[Prediction] = [None for _ in rows]
        for number, share in enumerate(self._shares(rows)):
            order = {place: at for at, place in enumerate(share.places)}
            own = [
                (replace(item, row=order[item.row]), output)
                for item, output in zip(features, outputs, strict=True)
                if item.task == number
            ]
            start = f"{share.name}."
            decoded = share.part.decode(
                share.of(rows),
                [item for item, _ in own],
                [output for _, output in own],
                {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)},
            )
            _put(lines, share, decoded)
        return lines

    def tune(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> dict[str, float]:
        """What each tunes, under its name."""
        tuned: dict[str, float] = {}
        for share in self._shares(rows):
            tuned |= share.named(share.part.tune(share.of(rows), share.of(predictions)))
        return tuned

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """Each task's classes, under its name."""
        counts: Counter[str] = Counter()
        for share in self._shares(rows):
            own = share.part.tally(share.of(rows))
            counts.update({f"{share.name}: {key}": count for key, count in own.items()})
        return counts

    def describe_gold(self, rows: Sequence[Row]) -> str:
        """Each task's."""
        shares = self._shares(rows)
        return "; ".join(f"{one.name}: {one.part.describe_gold(one.of(rows))}" for one in shares)

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """That of the first task that has one alone."""
        for share in self._shares(rows):
            answer = share.part.only_answer(share.of(rows))
            if answer is not None:
                return f"{answer} (task {share.name})"
        return None

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """Each task's scores under its name, and the mean of their main metrics."""
        metrics: dict[str, float] = {}
        errors: dict[str, float] = {}
        detail, main, spreads = {}, [], []
        for share in self._shares(rows):
            scores = share.part.score(share.of(rows), share.of(predictions))
            metrics |= share.named(scores.metrics)
            errors |= share.named(scores.standard_errors)
            detail[share.name] = scores.detail
            main.append(scores.metrics[share.part.metric])
            spreads.append(scores.standard_error)
        known = [error for error in spreads if error is not None]
        # The tasks' rows are independent, so their variances add up.
        spread = math.hypot(*known) / len(main) if len(known) == len(main) else None
        if spread is not None:
            errors["mean"] = spread
        return Scores({"mean": sum(main) / len(main), **metrics}, detail, spread, errors)

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, sum of k]: each task's columns, zero in the rows of the others."""
        blocks = []
        for share in self._shares(rows):
            own = share.part.row_statistics(share.of(rows), share.of(predictions))
            block = np.zeros((len(rows), own.shape[1]))
            block[share.places] = own
            blocks.append(block)
        self._widths = [block.shape[1] for block in blocks]
        return np.concatenate(blocks, axis=1)

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """Every task's metrics and their mean."""
        blocks = np.split(totals, np.cumsum(self._widths)[:-1], axis=-1)
        metrics: dict[str, Statistics] = {}
        main = []
        for share, block in zip(self._shares(()), blocks, strict=True):
            scores = share.part.from_statistics(block)
            metrics |= share.named(scores)
            main.append(scores[share.part.metric])
        return {"mean": np.mean(main, axis=0), **metrics}

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """Each task's, where every one has it."""
        lines: list[Prediction] = [None for _ in rows]
        for share, learnt in zip(self._shares(rows), self._shares(train), strict=True):
            guesses = share.part.majority(learnt.of(train), share.of(rows))
            if guesses is None:
                return None
            _put(lines, share, guesses)
        return lines

    def counts(self, rows: Sequence[Row]) -> dict[str, int]:
        """Rows of each task."""
        return {share.name: len(share.places) for share in self._shares(rows)}

    def _shares(self, rows: Sequence[Row]) -> list[Share]:
        """Each task with the places of its rows."""
        return [
            Share(name, part, [at for at, row in enumerate(rows) if task_of_row(row) == name])
            for name, part in zip(self.names, self.parts, strict=True)
        ]

    def _part_of(self, row: Mapping[str, Any], where: str) -> Task:
        name = task_of_row(row)
        if name not in self.names:
            what = "names no task" if name is None else f"names an unknown task {name!r}"
            raise DataError.at(
                where,
                f"the row {what}",
                f"a row of this run has a column {TASK}: {' or '.join(self.names)}",
            )
        return self.parts[self.names.index(name)]


def _section(section: TaskSection, options: Section, **changes: Any) -> TaskSection:
    """A section of `tasks:` with these options."""
    return TaskSection.model_validate({**section.model_dump(), **options.model_dump(), **changes})


def _put(lines: list[Prediction], share: Share, own: Sequence[Prediction]) -> None:
    """Put a task's predictions at the places of its rows."""
    for place, prediction in zip(share.places, own, strict=True):
        lines[place] = prediction


def _names(full: Sequence[str]) -> tuple[str, ...]:
    """Short names; tasks of one name are numbered: `conll2003-1`, since names end in digits."""
    short = [name.rsplit("/", 1)[-1] for name in full]
    counts = Counter(short)
    seen: Counter[str] = Counter()
    names = []
    for name in short:
        seen[name] += 1
        names.append(f"{name}-{seen[name]}" if counts[name] > 1 else name)
    return tuple(names)


def _alone(section: TaskSection) -> list[str]:
    """Keys of a task that mean nothing where several share a run."""
    drawn = section.limit.sample != "first"
    return (["demonstrations"] if section.demonstrations else []) + (
        ["limit.sample"] if drawn else []
    )


def _sources(source: DataSource) -> tuple[DataSource, ...]:
    if not isinstance(source, MultiSource):
        raise DataError.at(
            "--data",
            "one folder cannot be the data of several tasks",
            "evaluate the run on its own data, or predict rows that name their task",
        )
    return source.sources
