"""The data of a run as the model sees it: its encoder, and the features of each split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ptv2_cli.backbones.tokenizer import load_tokenizer
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.readers import read_files
from ptv2_cli.data.rows import AS_FOUND, Reading, Row, Split, reading_of, source_of
from ptv2_cli.errors import UnfitRow
from ptv2_cli.inputs.chat import ChatTemplate
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.table_builder import TableBuilder
from ptv2_cli.inputs.template import Template, default_template, parse_template
from ptv2_cli.inputs.verbalizer import TEMPLATE, render_demonstrations, word_tokens
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.rows.data import RunData
from ptv2_cli.runs.rows.kept_tokens import kept_table
from ptv2_cli.runs.rows.row_selection import DRAWN
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.multi import MultiTask
from ptv2_cli.tasks.texts import FORMATS

AT_ONCE = 4096
"""Rows that are tokenized at once: the memory that it takes does not grow with their number."""


@dataclass(eq=False)
class EncodedData:
    """The rows of a run and the encoder that makes features of them, split by split on demand."""

    data: RunData
    encoder: Encoder
    by_split: dict[str, FeatureTable] = field(default_factory=dict)
    """The features of the splits that were needed so far."""
    reading: Reading = AS_FOUND
    """How the files were read."""

    def features(self, split: str) -> FeatureTable:
        """The features of a split, encoded on first use.

        Raises:
            ConfigError: see Task.encode.
            UnfitRow: the same of a row, named by its file and line.
        """
        if split not in self.by_split:
            task, rows = self.data.task, self.data.rows(split)
            try:
                self.by_split[split] = encode_rows(task, rows, self.encoder)
            except UnfitRow as error:
                line = self._line_of(error.row, self.data.splits[split])
                raise error.beside(line) from None
        return self.by_split[split]

    def _line_of(self, row: Row, split: Split) -> str | None:
        """`file:line` of a row: only now are the files read for it again."""
        for record in read_files(self.data.task, split.files, FORMATS, reading=self.reading):
            if isinstance(record, RawRow) and record.values == source_of(row):
                return record.where
        return None

    def reuse(self, other: EncodedData) -> None:
        """Take the features of an equal encoder for splits with the very same rows."""
        for name in self.data.reuse(other.data):
            if name in other.by_split:
                self.by_split[name] = other.by_split[name]

    def summary(self) -> dict[str, dict[str, Any]]:
        """`data` of metrics.json: of every split its rows, sha256, and rows cut or left out."""
        return {name: self._summary(name, split) for name, split in self.data.splits.items()}

    def _summary(self, name: str, split: Split) -> dict[str, Any]:
        task, features = self.data.task, self.by_split.get(name)
        return {
            "rows": len(split.rows),
            "sha256": split.sha256,
            "truncated_rows": None if features is None else features.truncated_rows,
            "skipped_rows": len(split.bad),
            **({"drawn": DRAWN} if name == "holdout" else {}),
            **({"tasks": task.counts(split.rows)} if isinstance(task, MultiTask) else {}),
        }


def encode_rows(task: Task, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
    """The features of rows, tokenized some at a time, unless an earlier command kept them.

    Raises:
        ConfigError: see Task.encode.
    """
    return kept_table(task, rows, encoder, partial(_tokenized, task, rows, encoder))


def _tokenized(task: Task, rows: Sequence[Row], encoder: Encoder) -> FeatureTable:
    builder = TableBuilder()
    for first in range(0, len(rows), AT_ONCE):
        some = list(rows[first : first + AT_ONCE])  # each is made once, whoever looks at it
        builder.add(FeatureTable.of(task.encode(some, encoder)), first)
    return builder.build()


def tokenizer_of(resolved: ResolvedConfig) -> Any:
    """The backbone's tokenizer, as the task needs it.

    Raises:
        BackboneError: it cannot be loaded.
    """
    words = resolved.task.kind_spec.answer == "tags"
    return load_tokenizer(resolved.located, resolved.config.backbone, words=words)


def encode(resolved: ResolvedConfig, data: RunData, tokenizer: Any) -> EncodedData:
    """The data with the run's encoder, which has the template of its method or its head.

    Raises:
        ConfigError: `max_len` leaves no room for text, or a label's word is no single token.
    """
    config = resolved.config
    assert config.task.max_len is not None
    writes = resolved.task.kind_spec.writes
    encoder = Encoder(
        tokenizer,
        config.task.max_len,
        config.task.truncation or resolved.task.truncation,
        _template(resolved),
        ahead=(resolved.verbalizes or writes) and resolved.shape.family.causal,
        causal=resolved.shape.family.causal,
        answer_room=0 if config.generate is None else config.generate.max_new_tokens,
        chat=ChatTemplate(tokenizer, config.backbone.name)
        if config.task.options.get("messages")
        else None,
    )
    if resolved.verbalizes:  # also without demonstrations: a wrong word is an error before loading
        task, tokens = resolved.task, label_tokens(resolved, encoder)
        words = dict(zip(task.labels, tokens, strict=True))
        shown = render_demonstrations(
            encoder, task.columns, data.demonstrations, words, task.gold_key
        )
        encoder = encoder.showing(shown)
    return EncodedData(data, encoder, reading=reading_of(config.task))


def label_tokens(resolved: ResolvedConfig, encoder: Encoder) -> list[int]:
    """The token of each label's word.

    Raises:
        ConfigError: a word that is no single token.
    """
    words = resolved.config.head.words
    assert words is not None
    return word_tokens(encoder, words, resolved.task.labels)


def _template(resolved: ResolvedConfig) -> Template | None:
    if not resolved.method.uses_template:
        if resolved.task.kind_spec.writes:
            return _asking(resolved)
        question = resolved.config.head.template
        if question is None:
            return None
        return parse_template(question, resolved.task.columns, TEMPLATE, prompted=False)
    given = resolved.method.given_template
    if given is not None:
        return parse_template(given, resolved.task.columns)
    masked = resolved.config.head.pooling == "mask"
    assert resolved.config.prompt_len is not None
    return default_template(resolved.task.columns, resolved.config.prompt_len, masked)


def _asking(resolved: ResolvedConfig) -> Template | None:
    """How a task whose answer is written shows its columns; None: as the tokenizer does."""
    options, columns = resolved.config.task.options, resolved.task.columns
    given = options.get("template")
    if options.get("messages"):
        return None
    if given is None and not resolved.shape.family.causal and len(columns) <= 2:
        return None
    text = given or " ".join(f"{{{name}}}" for name in columns)
    return parse_template(text, columns, "task.template", prompted=False, lines=True)
