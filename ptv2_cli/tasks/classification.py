"""Classification of one text or a pair: SuperGLUE's RTE, BoolQ, CB and their like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
from pydantic import Field, field_validator

from ptv2_cli.config.fields import Text, impossible
from ptv2_cli.config.schema import Section
from ptv2_cli.data.formats import RawRow, unknown_column
from ptv2_cli.data.readers import read_split
from ptv2_cli.data.row_checks import check_label, check_text, index_of, inner, is_index, numbered
from ptv2_cli.data.rows import DataSource, Row, Split
from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.inputs.features import Feature
from ptv2_cli.kinds import Kind
from ptv2_cli.scoring.named_metrics import AUROC, NAMED, auroc_error, named_scores
from ptv2_cli.scoring.resampling import class_scores, mean_error, ratio, resampled_errors
from ptv2_cli.scoring.scores import Array, Prediction, Scores, Statistics
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.definition import Definition, PlaceSection
from ptv2_cli.tasks.texts import FORMATS, TextTask
from ptv2_cli.tasks.user_data import (
    NamedMetrics,
    Names,
    TableOptions,
    as_label,
    check_known,
    from_train,
    gold_key,
    in_order,
    read_labelled,
    require_label,
    table_row,
)


class ClassificationOptions(NamedMetrics):
    """Open keys of `task:` for classification."""


class Classification(TextTask):
    """Rows `{text columns..., label}`; the label is one of `labels`, absent if unlabelled."""

    kind: ClassVar[Kind] = "sequence"
    options_model: ClassVar[type[Section]] = ClassificationOptions
    further_metrics: tuple[str, ...] = NAMED

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.label_column = definition.label
        asked = options.metrics if isinstance(options, NamedMetrics) else None
        self.metrics = tuple(dict.fromkeys((*definition.metrics, *(asked or ()))))

    def measuring(self, metric: str) -> Task:
        """With `metric` among its own where it has it by name; see Task.measuring."""
        options = self.options
        known = metric in self.further_metrics and metric not in self.metrics
        if not known or not isinstance(options, NamedMetrics):
            return self
        update = {"metrics": (*(options.metrics or ()), metric)}
        return type(self)(self.name, self.definition, options.model_copy(update=update))

    def undefined(self, rows: Sequence[Row]) -> dict[str, str]:
        """auroc, where a class has no row; see Task.undefined."""
        if AUROC not in self.metrics:
            return {}
        missing = set(self.labels) - set(self.tally(rows))
        absent = [label for label in self.labels if label in missing]
        return {AUROC: f"no row of the class {absent[0]!r}"} if absent else {}

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read csv, tsv, jsonl or parquet files; see Task.read."""
        return read_split(self, source, split, limit, FORMATS, self._row)

    def _row(self, line: RawRow) -> Row:
        for column in self.definition.text:
            check_text(line, column)
        row = dict(line.values)
        value = row.pop(self.label_column, None)
        if value is not None:
            value = self.definition.values.get(str(value), value)
            row["label"] = check_label(line, value, self.labels)
        return row

    def _label(self, row: Row) -> int | None:
        gold = self.gold(row)
        return None if gold is None else self.labels.index(gold)

    def decode(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Mapping[str, Array]],
        state: Mapping[str, float],
    ) -> list[Prediction]:
        """The most probable label (the first of equals) and all probabilities."""
        lines: list[Prediction] = [{} for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            found = output["probabilities"]
            lines[feature.row] = {
                "label": self.labels[int(np.argmax(found))],
                "probabilities": dict(zip(self.labels, map(float, found), strict=True)),
            }
        return lines

    def tally(self, rows: Sequence[Row]) -> Counter[str]:
        """How often each label stands; see Task.tally."""
        return Counter(self.gold(row) for row in rows if self.gold_key in row)

    def only_answer(self, rows: Sequence[Row]) -> str | None:
        """The label, where there is one alone; see Task.only_answer."""
        found = list(self.tally(rows))
        return f"the label {found[0]!r}" if len(found) == 1 else None

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, C*C]: one-hot of the row's cell (gold, predicted) of the confusion matrix."""
        size = len(self.labels)
        place = {label: index for index, label in enumerate(self.labels)}
        cells = [
            place[self.gold(row)] * size + place[line["label"]]
            for row, line in zip(rows, predictions, strict=True)
        ]
        found = np.zeros((len(rows), size * size))
        found[np.arange(len(rows)), cells] = 1
        return found

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """All metrics but auroc from summed confusion cells [..., C*C]."""
        size = len(self.labels)
        scores = class_scores(totals.reshape(*totals.shape[:-1], size, size))
        return {name: scores[name] for name in self.metrics if name in scores}

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """accuracy and what else is asked for; per class and confusion under detail.

        A metric that the rows leave undefined is not there; see Task.undefined and Task.score.
        """
        from ptv2_cli.scoring.metrics import Accuracy, MacroF1

        self.require_gold(rows)
        place = {label: index for index, label in enumerate(self.labels)}
        guess = [place[line["label"]] for line in predictions]
        truth = [place[self.gold(row)] for row in rows]
        metrics = Accuracy().compute(predictions=guess, references=truth)
        if "f1_macro" in self.metrics:
            metrics |= MacroF1().compute(predictions=guess, references=truth)
        statistics = self.row_statistics(rows, predictions)
        errors = resampled_errors(statistics, self.from_statistics)
        errors["accuracy"] = mean_error(np.equal(guess, truth).astype(float))
        further = [name for name in self.metrics if name not in metrics]
        if further:
            given = [line["probabilities"] for line in predictions]
            found = np.array([[line[label] for label in self.labels] for line in given])
            metrics |= named_scores(further, truth, guess, found)
            error = auroc_error(truth, found) if AUROC in metrics else None
            errors |= {} if error is None else {AUROC: error}
        return Scores(
            metrics={name: float(metrics[name]) for name in self.metrics if name in metrics},
            detail=self._detail(statistics.sum(axis=0)),
            standard_error=errors[self.metric],
            standard_errors=errors,
        )

    def _detail(self, totals: Statistics) -> dict[str, Any]:
        size = len(self.labels)
        confusion = totals.reshape(size, size)
        scores = class_scores(confusion)
        classes = {
            label: {
                "precision": float(scores["class_precision"][index]),
                "recall": float(scores["class_recall"][index]),
                "f1": float(scores["class_f1"][index]),
                "support": int(confusion[index].sum()),
            }
            for index, label in enumerate(self.labels)
        }
        cells = {
            gold: dict(zip(self.labels, map(int, confusion[index]), strict=True))
            for index, gold in enumerate(self.labels)
        }
        return {"classes": classes, "confusion": cells}

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """The most frequent train label (the first in order of equals), with train's shares."""
        counts = self.tally(train)
        total = sum(counts.values())
        if not total:
            return None
        best = max(self.labels, key=lambda label: counts[label])
        shares = {label: counts[label] / total for label in self.labels}
        return [{"label": best, "probabilities": shares} for _ in rows]


MANY = 50
"""More labels than this, and most of them on one row alone, are no classes."""


class OwnClassificationOptions(NamedMetrics, TableOptions):
    """Open keys of `task: text/classification`."""

    labels: Names | None = Field(
        None, description="the classes in order; default: those of the train file, sorted"
    )

    @field_validator("labels")
    @classmethod
    def _at_least_two(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (len(value) < 2 or len(set(value)) != len(value)):
            raise impossible("names two or more different labels", "write labels: [no, yes]")
        return value


class OwnClassification(Classification):
    """Rows `{text columns..., label, ...}`: other columns of the file stay in the row."""

    options_model: ClassVar[type[Section]] = OwnClassificationOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        self.options: OwnClassificationOptions = cast(OwnClassificationOptions, options)
        self.columns = self.options.text
        self.labels = self.options.labels or ()
        self.label_column = self.options.label
        self.gold_key = gold_key(self.label_column, self.columns)

    @property
    def gold_columns(self) -> tuple[str, ...]:
        """The column that `label:` names."""
        return (self.label_column,)

    def settle(self, source: DataSource) -> OwnClassification:
        """With the labels of the train file, if the config does not give them; see Task.settle."""
        if self.options.labels is not None:
            return self
        labels = from_train(self, source, FORMATS, self._label_read)
        found = set(labels)
        self._check_found(source, found, len(labels))
        options = self.options.model_copy(update={"labels": in_order(found)})
        return OwnClassification(self.name, self.definition, options)

    def _label_read(self, line: RawRow) -> str:
        require_label(line, self.label_column)
        return as_label(table_row(line, self.columns, self.label_column, self.gold_key)[1])

    def _check_found(self, source: DataSource, found: set[str], rows: int) -> None:
        where = ", ".join(map(str, source.files("train")))
        column = self.label_column
        if len(found) == 1:
            what = f"column {column!r} holds {found.pop()!r} in every row: nothing to learn"
            raise DataError.at(where, what, "task.label names the column that tells rows apart")
        if len(found) > MANY and 2 * len(found) > rows:
            what = f"column {column!r} holds {len(found)} different labels in {rows} rows"
            hint = "task.label names the column of the class; for numbers use task: text/regression"
            raise DataError.at(where, what, hint)

    def read(self, source: DataSource, split: str, limit: int | None = None) -> Split:
        """Read csv, tsv, jsonl or parquet files; see Task.read."""
        written: dict[str, Counter[str]] = {}

        def note(value: Any) -> None:
            if isinstance(value, str):
                written.setdefault(value.strip(), Counter())[value] += 1

        found = read_labelled(self, self.label_column, source, split, limit, note)
        several = [counts for counts in written.values() if len(counts) > 1]
        notes = [
            f"labels of {split} that differ by spaces around them are read as one: "
            + " and ".join(f"{name!r} ({count})" for name, count in counts.most_common())
            for counts in several
        ]
        return replace(found, notes=(*found.notes, *notes))

    def _row(self, line: RawRow) -> Row:
        row, value = table_row(line, self.columns, self.label_column, self.gold_key)
        if value is not None:
            row[self.gold_key] = as_label(value)
            check_known(line.where, "label", row[self.gold_key], self.labels)
        return row


class TemplatedOptions(Section):
    """Open keys of `task:` for inputs that a template of the task's writes."""

    template: Text | None = Field(
        None,
        description="how columns become input, WiC: sentences or word; default: the task's first",
    )


class TemplatedClassificationOptions(NamedMetrics, TemplatedOptions):
    """Open keys of `task:` for such inputs whose rows are scored one by one."""


class Templated(Classification):
    """Rows `{text columns..., label}`; the input is that of one of the task's templates.

    `columns` are the template's input columns, which is what a prompt's template may name.
    """

    options_model: ClassVar[type[Section]] = TemplatedClassificationOptions

    def __init__(self, name: str, definition: Definition, options: Section) -> None:
        super().__init__(name, definition, options)
        known = definition.templates
        chosen = cast(TemplatedOptions, options).template or next(iter(known))
        if chosen not in known:
            raise ConfigError.at(
                "task.template",
                f"{name} has no template {chosen!r}",
                f"its templates are {', '.join(known)}",
            )
        self.options = options.model_copy(update={"template": chosen})
        self.patterns = known[chosen]
        self.columns = tuple(self.patterns)

    def texts(self, row: Row) -> Mapping[str, Any]:
        """The input's texts by column, as the template writes them."""
        return {column: pattern.format_map(row) for column, pattern in self.patterns.items()}

    def content(self, row: Row) -> tuple[Any, ...]:
        """The input's texts."""
        return tuple(self.texts(row).values())

    def texts_by_column(self, row: Row) -> dict[str, str]:
        """The texts of which the input is written; see Task.texts_by_column."""
        return {column: str(row[column]) for column in self.definition.text}

    def expand(self, line: RawRow) -> Iterator[RawRow]:
        """The line with the values of its nested object as columns; see Task.expand."""
        key = self.definition.nested
        if key is None or key not in line.values:
            yield line
            return
        values = inner(line, line.values, key, "object", "the row")
        rest = {name: value for name, value in line.values.items() if name != key}
        yield replace(line, values={**rest, **values})

    def _row(self, line: RawRow) -> Row:
        row = super()._row(line)
        for place in self.definition.places:
            check_place(line, place)
        return row


def check_place(line: RawRow, place: PlaceSection) -> None:
    """See that indices of a row are ones of its text; a row may leave them out.

    Raises:
        DataError: they are not, or one of two is missing.
    """
    names = [place.start] if place.end is None else [place.start, place.end]
    found = [line.values.get(name) for name in names]
    if found == [None] * len(found):
        return
    missing = next((name for name in names if name not in line.values), None)
    if missing is not None:
        raise unknown_column(line.where, missing, line.values)
    text = line.values[place.text]
    # Words are parted by single spaces: two of them have an empty word between them.
    size = len(re.split(r"\s", text)) if place.end is None else len(text)
    first, last = found[0], found[-1]
    if is_index(first) and is_index(last):
        inside = first < size if place.end is None else first < last <= size
        if inside:
            return
    what = ", ".join(f"{name} {at!r}" for name, at in zip(names, found, strict=True))
    unit = "words" if place.end is None else "characters"
    raise DataError.at(
        line.where,
        f"{what} outside of column {place.text!r}, which has {size} {unit}",
        f"{unit} are counted from 0",
    )


_PLACE = ("paragraph", "question")


class Grouped(Templated):
    """Rows `{paragraph, question, answer, idx: {paragraph, question, answer}, label}`.

    Of the two labels the second says that the answer is right. Files hold such rows, as the
    hub's do, or a passage per line with its questions and their answers, as the official ones do.
    """

    options_model: ClassVar[type[Section]] = TemplatedOptions
    further_metrics = ()
    origin: ClassVar[str | None] = "paragraph"

    @property
    def classed(self) -> bool:
        """False: the answers to a question are no rows of their own."""
        return False

    def expand(self, line: RawRow) -> Iterator[RawRow]:
        """A row for every answer to every question on the line's passage; see Task.expand."""
        if "passage" not in line.values:
            yield line
            return
        passage = inner(line, line.values, "passage", "object", "the row")
        paragraph = inner(line, passage, "text", "text", "the passage")
        number = index_of(line, line.values, (line.number or 1) - 1)
        rest = {key: value for key, value in line.values.items() if key not in {"passage", "idx"}}
        for place, question in numbered(line, passage, "questions", "the passage", "question"):
            asked = replace(line, part=f"question {place + 1}")
            text = inner(asked, question, "question", "text", "it")
            idx = {"paragraph": number, "question": index_of(asked, question, place)}
            for at, answer in numbered(asked, question, "answers", "it", "answer"):
                one = replace(asked, part=f"question {place + 1}, answer {at + 1}")
                values = {
                    **rest,
                    "paragraph": paragraph,
                    "question": text,
                    "answer": inner(one, answer, "text", "text", "it"),
                    "idx": {**idx, "answer": index_of(one, answer, at)},
                }
                if self.label_column in answer:
                    values["label"] = answer[self.label_column]
                yield replace(one, values=values)

    def _row(self, line: RawRow) -> Row:
        row = super()._row(line)
        idx = row.get("idx")
        if isinstance(idx, Mapping) and not all(is_index(idx.get(key)) for key in _PLACE):
            hint = "it is {paragraph: NUMBER, question: NUMBER, answer: NUMBER}"
            raise DataError.at(line.where, f"idx {idx!r}", hint)
        return row

    def unit(self, row: Row) -> Hashable:
        """The question, by its idx where rows have one."""
        idx = row.get("idx")
        if isinstance(idx, Mapping):
            return tuple(idx[key] for key in _PLACE)
        return tuple(row[key] for key in _PLACE)

    def row_statistics(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Statistics:
        """[n, 5]: right answers found, predicted, gold; question all right, 1.

        All stands in the row of a question's first answer and zeros in the others, so that a
        sample of rows is one of whole questions.
        """
        first: dict[Hashable, int] = {}
        found = np.zeros((len(rows), 5))
        for at, (row, line) in enumerate(zip(rows, predictions, strict=True)):
            leader = first.setdefault(self.unit(row), at)
            if leader == at:
                found[at, 3:] = 1
            gold, guess = map(self.labels.index, (self.gold(row), line["label"]))
            found[leader, :3] += (gold and guess, guess, gold)
            found[leader, 3] *= gold == guess
        return found

    def from_statistics(self, totals: Statistics) -> dict[str, Statistics]:
        """f1_a and exact_match from sums [..., 5]."""
        return {
            "f1_a": ratio(2 * totals[..., 0], totals[..., 1] + totals[..., 2]),
            "exact_match": ratio(totals[..., 3], totals[..., 4]),
        }

    def score(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Scores:
        """f1_a over all answers and exact_match over questions; see Task.score."""
        from ptv2_cli.scoring.metrics import AnswerOptions

        self.require_gold(rows)
        questions = [repr(self.unit(row)) for row in rows]
        guess = [self.labels.index(line["label"]) for line in predictions]
        found = AnswerOptions().compute(
            predictions=[
                {"question": question, "label": label}
                for question, label in zip(questions, guess, strict=True)
            ],
            references=[self.labels.index(self.gold(row)) for row in rows],
        )
        statistics = self.row_statistics(rows, predictions)
        statistics = statistics[statistics[:, 4] > 0]
        errors = resampled_errors(statistics, self.from_statistics)
        errors["exact_match"] = mean_error(statistics[:, 3])
        confusion = Classification.row_statistics(self, rows, predictions).sum(axis=0)
        return Scores(
            metrics={name: float(found[name]) for name in self.metrics},
            detail={"rows_scored_as": {"questions": len(statistics)}, **self._detail(confusion)},
            standard_error=errors[self.metric],
            standard_errors=errors,
        )

    def majority(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Prediction] | None:
        """Every answer is right: of the two constant answers the one of which F1a is not 0."""
        counts = self.tally(train)
        total = sum(counts.values())
        if not total:
            return None
        shares = {label: counts[label] / total for label in self.labels}
        return [{"label": self.labels[1], "probabilities": shares} for _ in rows]
