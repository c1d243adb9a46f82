"""Warnings about the data of a run: cut, unknown, missing, repeated or skipped text, by split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptv2_cli.data.rows import Row, Split, look_alikes
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.rows.data import RunData
from ptv2_cli.runs.rows.duplicate_text import overlap_warnings
from ptv2_cli.runs.rows.encoding import EncodedData
from ptv2_cli.tasks.base import Task

CUT = 0.05
"""Share of a split's rows above which cut text is warned about."""
UNKNOWN = 0.05
"""Share of unknown tokens from which they are warned about. Text in a language of the vocabulary
has under 1 % of them, names and emoji included."""
MOSTLY = 0.5
"""Share from which a row, or the whole train set, is mostly unknown: the model reads the unknown
token more often than all others together."""
SOME_ROWS = 0.01
"""Share of rows that are mostly unknown from which they are warned about."""
SAMPLE = 1000
"""Rows of train, evenly spaced, whose tokens are checked before a model is loaded."""
FEW = 10
"""Least rows of a selection split on which calibrate: batch may measure its prior."""
MISSING = frozenset({"", "nan", "<na>"})
"""Texts, in lower case, that programs write for a missing value."""
LONGEST_MISSING = max(map(len, MISSING))


@dataclass(frozen=True)
class Unknown:
    """The tokens of a split that the vocabulary does not have."""

    share: float
    """Of all tokens except special ones."""
    rows: int
    """Rows with more than half of their tokens unknown."""


def data_warnings(resolved: ResolvedConfig, encoded: EncodedData) -> list[str]:
    """All warnings; those about tokens cover the splits that were encoded so far."""
    data = encoded.data
    return [
        *skipped_rows(data),
        *_unknown_tokens(encoded),
        *_cut_rows(encoded, resolved.room),
        *(_overlaps(data) if resolved.method.trains else ()),
        *(note for split in data.splits.values() for note in split.notes),
        *_missing(data),
        *_look_alikes(data),
        *undefined_metrics(data, (name for name in data.splits if name != "train")),
        *_few_to_calibrate(resolved, data),
    ]


def skipped_rows(data: RunData) -> Iterator[str]:
    """Splits from which bad rows were left out."""
    for name, split in data.splits.items():
        if split.bad:
            first = split.bad[0].error.problems[0]
            rows = f"{len(split.bad):,} bad row{'s' if len(split.bad) > 1 else ''}"
            yield (
                f"{rows} of {name} left out, {len(split.rows):,} are used; the first: "
                f"{first.where}: {first.what}"
            )


def undefined_metrics(data: RunData, splits: Iterable[str]) -> Iterator[str]:
    """Metrics that a split leaves undefined."""
    for name in splits:
        for metric, why in data.task.undefined(data.rows(name)).items():
            yield f"{metric} is left out on {name}: {why}"


def unknown_tokens(encoded: EncodedData, split: str) -> Unknown | None:
    """How much of a split is unknown; None if the tokenizer knows every text."""
    mark = encoded.encoder.unknown_token
    if mark is None:
        return None
    features = encoded.features(split)
    others = set(encoded.encoder.tokenizer.all_special_ids) - {mark}
    unknown = features.count_tokens([mark])
    tokens = features.tokens - features.count_tokens(sorted(others))
    # A long row is several features.
    unknown_by_row, tokens_by_row = (np.bincount(features.rows, one) for one in (unknown, tokens))
    rows = int((unknown_by_row > MOSTLY * tokens_by_row).sum())
    return Unknown(int(unknown.sum()) / max(int(tokens.sum()), 1), rows)


def require_known(resolved: ResolvedConfig, train: Split, tokenizer: Any) -> None:
    """Check on a sample of train that the backbone's vocabulary knows the text.

    Raises:
        DataError: most of the tokens are unknown.
    """
    assert resolved.config.task.max_len is not None
    encoder = Encoder(tokenizer, resolved.config.task.max_len)
    if encoder.unknown_token is None:
        return
    sample = train.rows[:: max(len(train.rows) // SAMPLE, 1)]
    columns = (resolved.task.part_of(row).texts_by_column(row) for row in sample)
    found = encoder.tokenize([text for texts in columns for text in texts.values()])
    share = sum(ids.count(encoder.unknown_token) for ids in found) / max(sum(map(len, found)), 1)
    if share > MOSTLY:
        raise DataError.at(
            ", ".join(map(str, train.files)) or "train",
            f"{share:.0%} of the tokens of train are unknown to the vocabulary of "
            f"{resolved.config.backbone.name}: the model would see next to nothing of the text",
            "take a backbone whose vocabulary has the language of the data, such as the "
            "multilingual xlm-roberta-base; ptv2 check CONFIG --show 3 shows the tokens",
        )


def _few_to_calibrate(resolved: ResolvedConfig, data: RunData) -> Iterator[str]:
    """A prior of a few rows, which is the answer to these rows more than a prior."""
    split = resolved.config.selection.split
    rows = len(data.rows(split))
    if resolved.config.head.calibrate == "batch" and rows < FEW:
        yield (
            f"head.calibrate: batch measures the prior on {rows} row{'s' if rows > 1 else ''} of "
            f"{split}: give it {FEW} or more, or write calibrate: contextual"
        )


def _unknown_tokens(encoded: EncodedData) -> Iterator[str]:
    """Encoded splits with many unknown tokens, or with rows of little else."""
    told = []
    for name in encoded.by_split:
        found = unknown_tokens(encoded, name)
        if found and (found.share >= UNKNOWN or found.rows >= _some(len(encoded.data.rows(name)))):
            rows = f" (more than half in {found.rows} rows)" if found.rows else ""
            told.append(f"{found.share:.1%} of {name}{rows}")
    if told:
        yield (
            f"tokens that the backbone's vocabulary does not know: {', '.join(told)}; "
            "ptv2 check CONFIG --show 3 shows rows as the model sees them"
        )


def _some(rows: int) -> float:
    """How many mostly unknown rows cause a warning; a single one never does."""
    return max(SOME_ROWS * rows, 2)


def _missing(data: RunData) -> Iterator[str]:
    """Cells of tables with the text that programs write for a missing value."""
    for name in data.splits:
        found = Counter(_missing_cells(data.task, data.rows(name)))
        counts = [
            f"{column} {text!r} in {count} row{'s' if count > 1 else ''}"
            for (column, text), count in found.most_common()
        ]
        if counts:
            yield (
                f"{name} has cells that stand for a missing value: {', '.join(counts)}; write "
                "what they should hold, or delete the rows"
            )


def _missing_cells(task: Task, rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """Column and text of each cell of the rows that stands for a missing value."""
    answer = task.kind_spec.answer  # that of several tasks is the same
    for row in () if answer == "tags" else rows:
        part = task.part_of(row)
        cells = list(part.texts_by_column(row).items())
        if answer == "choice":
            cells += [("choice", str(text)) for text in part.content(row)[len(cells) :]]
        gold = part.gold(row)
        if isinstance(gold, str):
            cells.append(("label", gold))
        for cell in cells:
            bare = cell[1].strip()
            # Most texts are too long, which is the quickest to see.
            if len(bare) <= LONGEST_MISSING and bare.casefold() in MISSING:
                yield cell


def _look_alikes(data: RunData) -> Iterator[str]:
    """Labels of train that are probably meant to be the same."""
    for group in look_alikes(data.task.tally(data.rows("train"))):
        names = " and ".join(f"{name!r} ({count})" for name, count in group.items())
        yield (
            f"labels of train differ by case or spaces alone: {names} are learnt as different "
            "classes; if they mean the same, spell them the same"
        )


def _overlaps(data: RunData) -> Iterator[str]:
    """Rows of evaluated splits that are in train."""
    for split in data.splits:
        if split != "train":
            yield from overlap_warnings(data.task, split, data.rows("train"), data.rows(split))


def _cut_rows(encoded: EncodedData, room: int) -> Iterator[str]:
    """Encoded splits with cut rows, or too little room for demonstrations.

    `room` is the greatest `max_len` that the backbone has positions for.
    """
    most = encoded.encoder.max_len
    for name, features in encoded.by_split.items():
        cut, rows = features.truncated_rows, len(encoded.data.rows(name))
        if cut > CUT * rows:
            yield (
                f"{cut} of {rows} {name} rows ({cut / rows:.0%}) are cut at "
                f"max_len {most}{_longer(room, most, 'their text')}"
            )
        less = features.lacking_demonstrations
        if less:
            yield (
                f"{less} of {rows} {name} rows have no room for all "
                f"{len(encoded.data.demonstrations)} demonstrations at max_len {most}, "
                f"the first are left out{_longer(room, most, 'them')}"
            )


def _longer(room: int, most: int, what: str) -> str:
    """How to keep `what`: a greater `max_len`, unless it is the greatest already."""
    if most < room:
        return f"; raise task.max_len to keep {what}"
    return f", the most that fits; a backbone with more positions keeps {what}"
