"""Tasks whose rows are one text or a pair, each read by the head as a whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from ptv2_cli.errors import ConfigError
from ptv2_cli.tasks.base import Feature, Row, Task
from ptv2_cli.tasks.encoder import Encoder, fit

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
"""Files that such rows are read from."""


class TextTask(Task):
    """One feature per row of one or two text columns; subclasses say what its label is."""

    @abstractmethod
    def _label(self, row: Row) -> int | float | None:
        """The row's label as the head takes it, None if unlabelled."""

    def encode(self, rows: Sequence[Row], encoder: Encoder) -> list[Feature]:
        """One feature per row; see Task.encode."""
        if len(self.columns) == 1 and encoder.truncation == "only_second":
            raise ConfigError.at(
                "task.truncation",
                f"only_second, but {self.name} has one text: {self.columns[0]}",
                "leave task.truncation out",
            )
        frame = encoder.frame(self.columns)
        spaced = {text.name: text.spaced for text in frame.texts}
        tokens = [
            encoder.tokenize([row[column] for row in rows], spaced[column])
            for column in self.columns
        ]
        room = encoder.max_len - frame.overhead
        features = []
        for index, (row, texts) in enumerate(zip(rows, zip(*tokens, strict=True), strict=True)):
            lengths = [len(text) for text in texts]
            kept = fit(lengths, room, encoder.truncation)
            cut = [text[:size] for text, size in zip(texts, kept, strict=True)]
            built = frame.build(dict(zip(self.columns, cut, strict=True)))
            features.append(
                Feature(
                    row=index,
                    input_ids=built.input_ids,
                    token_type_ids=built.token_type_ids,
                    label=self._label(row),
                    slots=built.slots,
                    mask_at=built.mask_at,
                    cls_at=built.cls_at,
                    truncated=kept != lengths,
                )
            )
        return features
