"""What a data file looks like: the task that it is for, and the role of each column."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ptv2_cli.data.conll import read_columns
from ptv2_cli.data.formats import RawRow, Record, read_json, read_jsonl, short
from ptv2_cli.data.readers import BadRows
from ptv2_cli.data.source import WORDS, data_suffix, split_files, split_of
from ptv2_cli.data.tabular import DELIMITERS, read_table, read_workbook
from ptv2_cli.data.text_decoding import open_text
from ptv2_cli.errors import DataError, Problem
from ptv2_cli.tasks.choice import as_index, places
from ptv2_cli.tasks.messages import parsed

ROWS = 500
"""Rows that are read."""
CLASSES = 30
"""A column of more different values holds no classes, unless its name says so."""
_LABELS = (
    "label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "gold", "y",
)  # fmt: skip
_SCORES = ("score", "rating", "similarity", "grade", "stars", "value")
_TEXTS = (
    "text", "sentence", "review", "comment", "content", "body", "title", "question", "premise",
    "document",
)  # fmt: skip
_PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_1", "sentence_2"),
    ("question1", "question2"), ("question", "passage"), ("question", "sentence"),
    ("question", "context"), ("text_a", "text_b"), ("text1", "text2"), ("query", "passage"),
)  # fmt: skip
_ANSWERS = ("answer", "correct", "right", "key", "solution")
_INPUTS = (
    "input", "instruction", "prompt", "question", "article", "document", "dialogue", "source",
    "mr", "meaning_representation", "text",
)  # fmt: skip
_OUTPUTS = (
    "output", "summary", "response", "completion", "answer", "highlights", "translation",
    "reference", "references",
)  # fmt: skip
WORDS_TO_WRITE = 2
"""Words of a text to write, on average; shorter ones may be names of classes."""
_CHOICES = ("", "choice", "option", "opt", "ending", "answer", "sol", "solution", "candidate")
"""Names of columns of choices, before their number or letter."""
_NUMBERED = re.compile(r"(.*?)(?:\d+|(?<![a-z])[a-h])")
LONG = 40
"""Characters: few columns have longer names."""


@dataclass(frozen=True)
class Proposal:
    """What a config for some data could say."""

    task: str
    """text/classification, text/regression, text/tagging, text/qa, text/choice or
    text/generation."""
    path: Path
    """The file or folder that the user named."""
    columns: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    label: str | None = None
    """None: no column looks like one."""
    files: Mapping[str, Path] | None = None
    """Files by split if the user named a file; None for a folder."""
    choices: tuple[str, ...] = ()
    """The columns of the choices, or the one that lists them."""
    flags: tuple[str, ...] = ()
    """Several columns of 0 and 1; one of them can be the label."""
    bad: tuple[Problem, ...] = ()
    """Rows that cannot be used, among those that were read."""
    messages: str | None = None
    """The column of conversations; None: there is none."""

    @property
    def note(self) -> str | None:
        """What the user should know about the label."""
        if not self.flags:
            return None
        names = (name if name.isprintable() else repr(name) for name in self.flags)
        return (
            f"{', '.join(names)} hold 0 and 1: one of them can be the label; several labels "
            "for a text (multi-label) are not supported yet"
        )


def propose(path: Path) -> Proposal:
    """Look at a data file, or at the train file of a folder.

    Raises:
        DataError: there is no such path, no train file, or a file that cannot be read.
    """
    if path.is_dir():
        files = split_files(path, "train")
        if not files:
            names = ", ".join(f"{word}.*" for word in WORDS["train"])
            hint = f"call one file {names}, or name a file: --data FILE"
            raise DataError.at(str(path), "the folder has no train file", hint)
        return replace(_of_file(files[0]), path=path)
    if not path.is_file():
        hint = "--data takes a csv, tsv, jsonl, json or CoNLL file, or a folder of them"
        raise DataError.at(str(path), "there is no such file or folder", hint)
    return replace(_of_file(path), files={"train": path, **_siblings(path)})


def _siblings(path: Path) -> dict[str, Path]:
    """The other splits beside a file whose name says train."""
    if split_of(path) != "train":
        return {}
    others = {split: split_files(path.parent, split) for split in ("validation", "test")}
    return {split: files[0] for split, files in others.items() if len(files) == 1}


def _of_file(path: Path) -> Proposal:
    suffix = data_suffix(path)
    if suffix == ".parquet":
        what = "init does not read parquet files"
        raise DataError.at(str(path), what, "ptv2 init NAME, then write the columns into the file")
    if suffix == ".xlsx":
        return _of_records(path, read_workbook(path), tabular=True)
    text = open_text(path)
    if suffix in DELIMITERS:
        return _of_records(path, read_table(text, DELIMITERS[suffix]), tabular=True)
    if suffix == ".jsonl":
        return _of_records(path, read_jsonl(text))
    if suffix == ".json":
        return _of_records(path, read_json(text, squad=True))
    return replace(_of_records(path, read_columns(text)), columns=(), text=(), label=None)


def _of_records(path: Path, records: Iterable[Record], *, tabular: bool = False) -> Proposal:
    """The proposal of the first rows that are good, with the bad ones among them.

    Raises:
        DataError: no row is good.
    """
    bad = BadRows(skip=False)
    rows = list(bad.good(islice(records, ROWS), lambda row: row))
    if not rows:
        bad.check([path], 0)
        raise DataError.at(str(path), "holds no row", "a split needs at least one row")
    return replace(_of_rows(path, rows, tabular=tabular), bad=tuple(bad.problems([path])))


def _of_rows(path: Path, rows: Sequence[RawRow], *, tabular: bool = False) -> Proposal:
    values = [line.values for line in rows]
    columns = tuple(values[0])
    if tabular:
        _require_header(path, columns, values)
    if isinstance(values[0].get("context"), str) and "answers" in columns:
        return Proposal("text/qa", path, columns)
    talk = next((name for name in columns if _is_conversation(values[0][name])), None)
    if talk is not None:
        return Proposal("text/generation", path, columns, messages=talk)
    lists = [column for column in columns if isinstance(values[0][column], list)]
    chosen = _chosen(columns, values, lists[0]) if len(lists) == 1 else None
    if chosen:
        text = _text([column for column in columns if column not in (chosen, *lists)], values)
        return Proposal("text/choice", path, columns, text, chosen, choices=tuple(lists))
    pair = _to_write(columns, values) if lists else None
    if pair:
        return Proposal("text/generation", path, columns, *pair)
    if lists:
        return Proposal("text/tagging", path, columns, tuple(lists[:1]), (*lists[1:2], None)[0])
    beside = _choice_columns(columns, values) if tabular else None
    if beside:
        right, choices = beside
        rest = [column for column in columns if column not in (right, *choices)]
        return Proposal("text/choice", path, columns, _text(rest, values), right, choices=choices)
    pair = _to_write(columns, values)
    if pair:
        return Proposal("text/generation", path, columns, *pair)
    flags = _flags(columns, values)
    label = flags[0] if flags else _label(columns, values)
    text = _text([column for column in columns if column not in (label, *flags)], values)
    scored = label is not None and _is_score(label, _cells(values, label))
    task = "text/regression" if scored else "text/classification"
    return Proposal(task, path, columns, text, label, flags=flags)


def _require_header(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that the first line names columns, and is no row itself.

    Raises:
        DataError: each of its fields looks like those below it, and one cannot be a name.
    """
    pairs = {name for pair in _PAIRS for name in pair}
    known = pairs | {*_LABELS, *_SCORES, *_TEXTS, *_ANSWERS, "id"}
    if known & {column.lower() for column in columns}:
        return
    cells = {column: _cells(rows, column) for column in columns}
    alike = all(_is_number(name) == all(map(_is_number, below)) for name, below in cells.items())
    sure = any(
        below and (_is_number(name) or name in below or (len(name) > LONG and " " in name))
        for name, below in cells.items()
    )
    if alike and sure:
        names = ",".join(
            ["text", "label", *(f"column{index}" for index in range(3, len(columns) + 1))]
        )
        shown = ", ".join(short(name) for name in columns[:3])
        command = f"(echo {names}; cat {shlex.quote(str(path))}) > with-names{path.suffix}"
        raise DataError.at(
            f"{path}:1",
            f"the first line looks like a row, not like the names of columns: {shown}",
            "put a line of names above it, such as " + command,
        )


def _choice_columns(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> tuple[str, tuple[str, ...]] | None:
    """The label and the columns of the choices, if every row's label is one of its choices.

    Columns of choices have numbers or letters: A, B, C; choice1, choice2; ending0, ending1.
    """
    groups: dict[str, list[str]] = {}
    for column in columns:
        parts = _NUMBERED.fullmatch(column.lower())
        if parts is not None:
            groups.setdefault(parts[1].rstrip(" _-"), []).append(column)
    likely = sorted(columns, key=lambda name: name.lower() not in (*_ANSWERS, *_LABELS))
    for stem, choices in groups.items():
        for label in likely if len(choices) > 1 else ():
            labels = {str(row.get(label)).strip() for row in rows}
            by_index = stem in _CHOICES and labels <= set(map(str, range(len(choices))))
            by_name = labels <= set(choices)
            by_text = all(
                str(row.get(label)).strip() in {str(row.get(name)).strip() for name in choices}
                for row in rows
            )
            if label not in choices and (by_index or by_name or by_text):
                return label, tuple(choices)
    return None


def _flags(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Several columns of 0 and 1, if no column is called a label."""
    if any(column.lower() in _LABELS for column in columns):
        return ()
    binary = ({"0", "1"}, {"0"}, {"1"})
    flags = tuple(column for column in columns if set(_cells(rows, column)) in binary)
    return flags if len(flags) > 1 else ()


def _chosen(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], listing: str) -> str | None:
    """The column that says which of the listed texts is right; None: they are no choices."""
    likely = sorted(columns, key=lambda name: name.lower() not in (*_LABELS, "answer"))
    for name in likely:
        if name != listing and all(_is_one_of(row.get(name), row.get(listing)) for row in rows):
            return name
    return None


def _is_one_of(value: Any, choices: Any) -> bool:
    if not isinstance(choices, list) or len(choices) < 2:
        return False
    if not all(isinstance(choice, str) for choice in choices):
        return False
    index = as_index(value)
    return bool(places(value, choices)) or (index is not None and 0 <= index < len(choices))


def _label(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column named like a label, else the last one with few different values."""
    for name in (*_LABELS, *_SCORES):
        for column in columns:
            if column.lower() == name:
                return column
    few = [column for column in columns if _is_class(_cells(rows, column))]
    return few[-1] if few else None


def _is_conversation(value: Any) -> bool:
    """Whether a cell holds messages, as a list or as its JSON."""
    messages = parsed(value)
    if not isinstance(messages, list) or not messages:
        return False
    return all(isinstance(one, dict) and {"role", "content"} <= set(one) for one in messages)


def _to_write(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, ...], str] | None:
    """What is read and the text to write for it: a column named like one, of free text.

    None where another column is named like a label, or where few outputs differ.
    """
    spelled = {column.lower(): column for column in columns}
    if {*_LABELS, *_SCORES} & set(spelled):
        return None
    for name in _OUTPUTS:
        output = spelled.get(name)
        if output is None or not _is_free_text(_cells(rows, output)):
            continue
        rest = [column for column in columns if column != output]
        named = [spelled[name] for name in _INPUTS if name in spelled and spelled[name] != output]
        texts = tuple(named[:1]) or _text(rest, rows)
        context = spelled.get("context")
        if named and context is not None and context not in texts and _cells(rows, context):
            texts = (*texts, context)
        if texts:
            return texts, output
    return None


def _is_free_text(cells: Sequence[str]) -> bool:
    """Whether most values differ and are more than a word or a number."""
    if not cells or 2 * len(set(cells)) < len(cells):
        return False
    return sum(len(cell.split()) for cell in cells) >= WORDS_TO_WRITE * len(cells)


def _is_class(cells: Sequence[str]) -> bool:
    different = set(cells)
    return 2 <= len(different) <= min(CLASSES, len(cells) // 2)


def _is_score(name: str, cells: Sequence[str]) -> bool:
    """Whether the labels are numbers on a scale: fractions, or many different ones."""
    if not cells or not all(map(_is_number, cells)):
        return False
    whole = all(float(cell).is_integer() and "." not in cell for cell in cells)
    return not whole or len(set(cells)) > CLASSES or name.lower() in _SCORES


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Two columns with known names, one with a known name, else the one with the longest texts."""
    spelled = {column.lower(): column for column in columns}
    for first, second in _PAIRS:
        if first in spelled and second in spelled:
            return spelled[first], spelled[second]
    for name in _TEXTS:
        if name in spelled:
            return (spelled[name],)
    words = [column for column in columns if not all(map(_is_number, _cells(rows, column)))]
    longest = max(words, key=lambda column: sum(map(len, _cells(rows, column))), default=None)
    return (longest,) if longest else ()


def _cells(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    texts = (str(row[column]).strip() for row in rows if row.get(column) is not None)
    return [text for text in texts if text]
