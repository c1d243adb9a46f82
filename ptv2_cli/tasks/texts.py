"""Tasks whose rows are one text or a pair, each read by the head as a whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ptv2_cli.data.rows import Row
from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.encoder import Encoder, fit
from ptv2_cli.inputs.features import Feature
from ptv2_cli.tasks.base import Task

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".json", ".xlsx")
"""Files that such rows are read from."""


class TextTask(Task):
    """One feature per row of one or two text columns; subclasses say what its label is."""

    @abstractmethod
    def _label(self, row: Row) -> int | float | None:
        """The row's label as the head takes it, None if unlabelled."""

    def texts(self, row: Row) -> Mapping[str, Any]:
        """The texts of a row by column: itself, unless a template writes them."""
        return row

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> list[Feature]:
        """One feature per row; see Task.encode."""
        if len(self.columns) == 1 and encoder.truncation == "only_second":
            raise ConfigError.at(
                "task.truncation",
                f"only_second, but {self.name} has one text: {self.columns[0]}",
                "leave task.truncation out",
            )
        features = encode_texts(self.columns, [self.texts(row) for row in rows], encoder)
        return [
            replace(feature, label=self._label(row))
            for row, feature in zip(rows, features, strict=True)
        ]


def encode_texts(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], encoder: Encoder
) -> list[Feature]:
    """An unlabelled feature for each row, whose texts in `columns` are cut where they are too long.

    Raises:
        ConfigError: `max_len` leaves no room for text.
    """
    layout = encoder.layout(columns)
    spaced = {text.name: text.spaced for text in layout.texts}
    tokens = [_tokenized([row[name] for row in rows], spaced[name], encoder) for name in columns]
    room = encoder.max_len - layout.overhead
    features = []
    for index, (row, *texts) in enumerate(zip(rows, *tokens, strict=True)):
        lengths = [len(text) for text in texts]
        kept = fit(lengths, room, encoder.truncation)
        cut = [text[:size] for text, size in zip(texts, kept, strict=True)]
        shown, left_out = encoder.shown(row, room - sum(kept))
        built = layout.build(dict(zip(columns, cut, strict=True)), shown)
        features.append(
            Feature(
                row=index,
                input_ids=built.input_ids,
                token_type_ids=built.token_type_ids,
                slots=built.slots,
                mask_at=built.mask_at,
                truncated=kept != lengths,
                left_out=left_out,
            )
        )
    return features


def _tokenized(texts: Sequence[str], spaced: bool, encoder: Encoder) -> list[list[int]]:
    """Token ids of each text; a paragraph that many rows ask about is tokenized once."""
    unique = list(dict.fromkeys(texts))
    ids = dict(zip(unique, encoder.tokenize(unique, spaced), strict=True))
    return [ids[text] for text in texts]
