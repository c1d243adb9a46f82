"""Tasks whose rows are one text or a pair, each read by the head as a whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ptv2_cli.data.rows import Row
from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.encoder import Encoder, fit_all
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.features import Label
from ptv2_cli.inputs.ragged import Ragged
from ptv2_cli.tasks.base import Task

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".json", ".xlsx")
"""Files that such rows are read from."""


class TextTask(Task):
    """One feature per row of one or two text columns; subclasses say what its label is."""

    @abstractmethod
    def _label(self, row: Row) -> Label:
        """The row's label as the head takes it, None if unlabelled."""

    def texts(self, row: Row) -> Mapping[str, Any]:
        """The texts of a row by column: itself, unless a template writes them."""
        return row

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
        """One feature per row; see Task.encode."""
        if len(self.columns) == 1 and encoder.truncation == "only_second":
            raise ConfigError.at(
                "task.truncation",
                f"only_second, but {self.name} has one text: {self.columns[0]}",
                "leave task.truncation out",
            )
        table = encode_texts(self.columns, [self.texts(row) for row in rows], encoder)
        return table.labelled([self._label(row) for row in rows])


def encode_texts(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], encoder: Encoder
) -> FeatureTable:
    """An unlabelled feature for each row, whose texts in `columns` are cut where they are too long.

    Raises:
        ConfigError: `max_len` leaves no room for text.
    """
    layout = encoder.layout(columns)
    spaced = {text.name: text.spaced for text in layout.texts}
    tokens = [_tokenized([row[name] for row in rows], spaced[name], encoder) for name in columns]
    lengths = [text.lengths for text in tokens]
    room = encoder.max_len - layout.overhead
    kept = fit_all(lengths, room, encoder.truncation)
    texts = {
        name: text.first(sizes) for name, text, sizes in zip(columns, tokens, kept, strict=True)
    }
    shown, left_out = _shown(rows, room - np.sum(kept, axis=0), encoder)
    built = layout.build(texts, shown)
    truncated = np.any([some != all_ for some, all_ in zip(kept, lengths, strict=True)], axis=0)
    return FeatureTable(
        ids=built.ids,
        rows=np.arange(len(rows), dtype=np.int32),
        types=built.types,
        slots=built.slots,
        mask_at=built.mask_at,
        truncated=truncated if truncated.any() else None,
        left_out=left_out,
    )


def _shown(
    rows: Sequence[Mapping[str, Any]], room: npt.NDArray[np.int64], encoder: Encoder
) -> tuple[Ragged | None, npt.NDArray[np.int32] | None]:
    """The demonstrations before each row, and how many did not fit."""
    if not encoder.demonstrations:
        return None, None
    shown = [encoder.shown(row, left) for row, left in zip(rows, room.tolist(), strict=True)]
    return Ragged.of(ids for ids, _ in shown), np.array([lost for _, lost in shown], np.int32)


def _tokenized(texts: Sequence[str], spaced: bool, encoder: Encoder) -> Ragged:
    """Token ids of each text; a paragraph that many rows ask about is tokenized once."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    if len(numbers) == len(texts):
        return encoder.tokenize_all(texts, spaced)
    return encoder.tokenize_all(list(numbers), spaced).take(np.array([numbers[t] for t in texts]))
