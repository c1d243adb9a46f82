"""What every task is: rows of a split -> features for the model -> predictions -> scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from ptv2_cli.config.schema import TaskSection
from ptv2_cli.config.section import Section
from ptv2_cli.data.rows import DataSource, Row, SourceRow, Split, SplitName, counted, reading_of
from ptv2_cli.data.source import open_source
from ptv2_cli.errors import InputError
from ptv2_cli.inputs.features import Feature, Truncation
from ptv2_cli.kinds import Kind, KindSpec, kind_spec
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics

if TYPE_CHECKING:
    from ptv2_cli.data.formats import RawRow
    from ptv2_cli.data.rows import HubSection
    from ptv2_cli.inputs.encoder import Encoder
    from ptv2_cli.tasks.definition import Definition


class Task(ABC):
    """A data set of one shape: Classification, Regression, Choice, Tagging, QuestionAnswering."""

    kind: ClassVar[Kind]
    """Name of its record in `kinds.KINDS`."""
    options_model: ClassVar[type[Section]]
    """What the open keys of the config's `task:` section may be, for tasks of this shape."""
    name: str
    version: int
    columns: tuple[str, ...]
    """Names of the text columns in order: what a template may refer to."""
    labels: tuple[str, ...]
    """Classes of the head in order; empty for numbers, choices and spans."""
    metric: str
    """The metric that chooses the epoch unless the config says otherwise."""
    metrics: tuple[str, ...]
    further_metrics: tuple[str, ...] = ()
    """Those that it gives besides where the config asks for them by name."""
    report: tuple[SplitName, ...]
    """Splits whose scores are reported unless the config says otherwise; `test` only where the
    source has its files (`source.files("test")` is not empty)."""
    max_len: int | None
    """Default limit of tokens per input, None: what the model takes."""
    truncation: Truncation
    """Default way to cut an input that is too long."""
    hub: HubSection | None
    """Where the data is when no folder is given."""
    options: Section
    """The parsed open keys of `task:`."""
    gold_key: str = "label"
    """The key of a row that holds its gold answer."""
    parts: tuple[Task, ...] = ()
    """The tasks of which it is made, if it is several that train together."""
    mixing: Literal["proportional", "even"] = "proportional"
    """How their batches make an epoch."""
    unweighted: ClassVar[str | None] = None
    """Why `train.class_weights` means nothing to it; None: its labels can be weighted."""
    piece: ClassVar[str] = "window"
    """What the features of a row are called, where it has several."""
    origin: ClassVar[str | None] = None
    """The column that many rows share by design, such as the paragraph of many questions."""
    token_column: int | str = 0
    """Tagging: the column of the words in CoNLL files, by index or by name."""

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        self.name = name
        self.definition = definition
        self.version = definition.version
        self.columns = definition.text
        self.labels = definition.labels
        self.metric = definition.metric
        self.metrics = definition.metrics
        self.report = definition.report
        self.max_len = definition.max_len
        self.truncation = definition.truncation
        self.hub = definition.hub
        self.options = options

    def with_options(self, **changes: Any) -> Self:
        """This task with other values of some options."""
        options = self.options.model_copy(update=changes)
        return type(self)(self.name, self.definition, options)

    def settle(self, source: DataSource) -> Task:
        """This task with what only the train data tells (labels, say) fixed in its options.

        The resolved config carries them, so that later commands need no train data. A task whose
        options are complete reads nothing.

        Raises:
            DataError: no train data, or train data that cannot be learnt from.
        """
        return self

    def measuring(self, metric: str) -> Task:
        """This task with a further metric among its own; itself if it has it or cannot give it."""
        return self

    def undefined(self, rows: Sequence[Row]) -> dict[str, str]:
        """Its metrics that these rows leave undefined, which `score` leaves out, and why."""
        return {}

    @property
    def identity(self) -> dict[str, Any]:
        """What `task` of metrics.json says: name, version, and what the metric names leave open."""
        return {"name": self.name, "version": self.version}

    @property
    def found(self) -> str | None:
        """How the data gives the gold answers, where that had to be found out: for people."""
        return None

    @property
    def kind_spec(self) -> KindSpec:
        """What its kind is for the rest of the package.

        Raises:
            ConfigError: nothing has registered its kind.
        """
        return kind_spec(self.kind)

    @property
    def classed(self) -> bool:
        """Whether the answer to every row is one label, right or wrong by itself."""
        return self.kind_spec.classed

    def content(self, row: Row) -> tuple[Any, ...]:
        """What of a row the model reads, by which equal rows are known."""
        return tuple(row.get(column) for column in self.columns)

    def texts_by_column(self, row: Row) -> dict[str, str]:
        """The texts of a row as its file has them, any of which other rows may have too."""
        return {column: str(row[column]) for column in self.columns}

    def unit(self, row: Row) -> Hashable:
        """What a row is scored with: rows of equal units are limited and resampled as one.

        None: the row alone.
        """
        return None

    def part(self, number: int) -> Task:
        """The task that a feature belongs to; itself, but for several that train together."""
        return self

    def part_of(self, row: Row) -> Task:
        """The task that a row belongs to; itself, but for several that train together."""
        return self

    def open(self, section: TaskSection, offline: bool) -> DataSource:
        """Where the config's `task:` says the data is.

        Raises:
            DataError: it does not say.
        """
        named = {name: getattr(section, name) for name in ("train", "validation", "test")}
        files = {name: Path(path) for name, path in named.items() if path is not None}
        folder = None if section.data is None else Path(section.data)
        return open_source(self, folder, offline, files, reading_of(section))

    @property
    def tunes(self) -> bool:
        """Whether `tune` fits anything, which then must not be reported on the same split."""
        return False

    @abstractmethod
    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read and check the first `limit` rows of a split.

        Raises:
            DataError: no such file, an empty set, or a bad row (named by file and line).
        """

    @abstractmethod
    def _row(self, line: RawRow) -> Row:
        """Check one row as read; without gold it is an unlabelled row.

        Raises:
            DataError: the row is bad.
        """

    def expand(self, line: RawRow) -> Iterator[RawRow]:
        """The rows that a line of a file holds: itself, unless the format nests them.

        Raises:
            DataError: the line is not of the format.
        """
        yield line

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """Columns of a row as read that hold its gold answer."""
        return (self.definition.label,)

    def new_row(self, line: RawRow) -> Row:
        """A row to predict: checked as `read` does, its gold answer neither needed nor looked at.

        Raises:
            DataError: the row is bad.
        """
        gold = self.gold_columns
        values = {name: value for name, value in line.values.items() if name not in gold}
        return SourceRow(self._row(replace(line, values=values)), line.values)

    def new_rows(self, line: RawRow) -> list[Row]:
        """The rows to predict that a line of a file holds; see `new_row`."""
        return [self.new_row(item) for item in self.expand(line)]

    def columns_of(self, texts: tuple[str, ...]) -> dict[str, Any]:
        """The columns of a row that is given as its texts, one for each of `columns`."""
        return dict(zip(self.columns, texts, strict=True))

    def answer(self, line: Mapping[str, Any]) -> Any:
        """The answer that a line of predictions gives."""
        return line["prediction"][self.kind_spec.answer_key]

    def labelled(self, line: Mapping[str, Any]) -> Row:
        """The row with its gold answer that a line of predictions was written of."""
        return {**line["row"], self.gold_key: line["gold"]}

    @abstractmethod
    def encode(self, rows: Sequence[Row], encoder: Encoder) -> Sequence[Feature]:
        """Tokenize rows into features, in row order; every row has at least one feature.

        It is called for some thousand rows at a time: what a row becomes depends on itself alone.

        Raises:
            ConfigError: `max_len` leaves no room for text, or options that contradict it.
        """

    @abstractmethod
    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """Turn head outputs (one mapping per feature, padding removed) into a prediction per row.

        sequence: `{"probabilities": [C]}`; regression: `{"value": []}`;
        choice: `{"probabilities": [the row's choices]}`;
        token: `{"probabilities": [T, C]}`; span: `{"start": [T], "end": [T]}`, logits.
        `state` is what `tune` gave.
        """

    def tune(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> dict[str, float]:
        """Numbers fitted on the selection split and passed to later `decode` calls."""
        return {}

    def gold(self, row: Row) -> Any:
        """The gold answer of a row in the form that files of predictions have it.

        A label; a number; a choice's index; a list of tags; the list of accepted answers (empty:
        unanswerable). None for an unlabelled row.
        """
        return row.get(self.gold_key)

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """How often each class (entity type, role) is the gold answer; empty without classes."""
        return Counter()

    def describe_gold(self, rows: Sequence[Row]) -> str:
        """The gold answers of rows in figures, on one line for people."""
        return counted(self.tally(rows))

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """The one answer that all rows have, in words: nothing can be learnt from them."""
        return None

    @abstractmethod
    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """Compare predictions with the rows' gold answers.

        Raises:
            InputError: a row has no gold answer.
        """

    @abstractmethod
    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """Per row the sums [n, k] from whose totals every metric follows (for resampling)."""

    @abstractmethod
    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """Metrics [...] from totals [..., k] of `row_statistics` over any sample of rows."""

    @abstractmethod
    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """What a model that ignores its input would predict; None where that has no meaning."""

    def scores(
        self, values: Mapping[str, Any], errors: dict[str, float], detail: dict[str, Any]
    ) -> Scores:
        """Those of `values` that are its metrics, with their standard errors and their detail."""
        metrics = {name: float(values[name]) for name in self.metrics if name in values}
        return Scores(metrics, detail, errors.get(self.metric), errors)

    def require_gold(self, rows: Sequence[Row]) -> None:
        """Raise InputError unless every row has a gold answer and there is a row."""
        if not rows:
            raise InputError.at(self.name, "no rows to score", "give a split that has rows")
        for index, row in enumerate(rows):
            if self.gold(row) is None:
                raise InputError.at(
                    self.name,
                    f"row {index + 1} of {len(rows)} has no gold answer: nothing to score against",
                    "score a labelled split, such as --split validation",
                )
