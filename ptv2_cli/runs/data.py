"""The data of a run: its splits, the holdout, and features made of them on first use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ptv2_cli.data.rows import DataSource, Row, Split, reading_of
from ptv2_cli.data.source import FileSource, FolderSource
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.features import Feature, truncated_rows
from ptv2_cli.inputs.template import Template, default_template, parse_template
from ptv2_cli.inputs.verbalizer import TEMPLATE, render_demonstrations, word_tokens
from ptv2_cli.runs.memo import Memo
from ptv2_cli.runs.overlap import Marks, marks_of
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig, with_holdout
from ptv2_cli.runs.row_selection import DRAWN, draw, hold_out, read_limited
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.class_weights import ClassWeights, class_weights
from ptv2_cli.tasks.multi import MultiTask


@dataclass
class RunData:
    """Splits by name, read when the run is prepared; features when they are needed."""

    task: Task
    splits: dict[str, Split]
    encoder: Encoder | None = None
    demonstrations: list[Row] = field(default_factory=list)
    """Rows of train that stand before every text."""
    room: int | None = None
    """The greatest `max_len` that the backbone has positions for; None: not known."""
    _features: dict[str, list[Feature]] = field(default_factory=dict)
    _marks: dict[str, list[Marks]] = field(default_factory=dict)

    def rows(self, split: str) -> list[Row]:
        """The rows of a split."""
        return self.splits[split].rows

    def features(self, split: str) -> list[Feature]:
        """The features of a split, encoded on first use."""
        if split not in self._features:
            assert self.encoder is not None
            self._features[split] = self.task.encode(self.rows(split), self.encoder)
        return self._features[split]

    @property
    def encoded(self) -> dict[str, list[Feature]]:
        """The features of the splits that are encoded already."""
        return dict(self._features)

    def marks(self, split: str) -> list[Marks]:
        """What the texts of a split are known by, hashed on first use."""
        if split not in self._marks:
            self._marks[split] = marks_of(self.task, self.rows(split))
        return self._marks[split]

    def borrow(self, other: RunData) -> None:
        """Take over what is known of splits with the very same rows; the encoders are equal."""
        for name in self.splits:
            if name in other.splits and self.rows(name) is other.rows(name):
                if name in other._features:
                    self._features.setdefault(name, other._features[name])
                if name in other._marks:
                    self._marks.setdefault(name, other._marks[name])

    def forget(self) -> None:
        """Let go of the features, which are made again when they are needed."""
        self._features.clear()

    @cached_property
    def note(self) -> str | None:
        """First line of a NOTE.txt beside the data: a caveat that goes with every score.

        None where it is empty.
        """
        folders = dict.fromkeys(
            file.parent for split in self.splits.values() for file in split.files
        )
        notes = (folder / "NOTE.txt" for folder in folders)
        found = next((path for path in notes if path.is_file()), None)
        lines = found.read_text(encoding="utf-8", errors="replace").splitlines() if found else []
        return next((line.strip() for line in lines if line.strip()), None)

    @cached_property
    def identities(self) -> dict[str, str]:
        """What the fingerprint knows the data by."""
        return {f"data.{name}": split.sha256 for name, split in self.splits.items()}

    def summary(self) -> dict[str, dict[str, Any]]:
        """`data` of metrics.json: of every split its rows, sha256, and rows cut or left out."""
        return {
            name: {
                "rows": len(split.rows),
                "sha256": split.sha256,
                "truncated_rows": truncated_rows(self._features[name])
                if name in self._features
                else None,
                "skipped_rows": len(split.bad),
                **({"drawn": DRAWN} if name == "holdout" else {}),
                **self._of_tasks(split),
            }
            for name, split in self.splits.items()
        }

    def _of_tasks(self, split: Split) -> dict[str, Any]:
        """How many rows each of several tasks has."""
        if not isinstance(self.task, MultiTask):
            return {}
        return {"tasks": self.task.counts(split.rows)}

    def class_weights(self, setting: ClassWeights | None) -> tuple[float, ...] | None:
        """The weight of each label [C] that `train.class_weights` means with this train split.

        None: all count alike, or `balanced` where train was not read, which predicts the same.
        """
        train = self.splits.get("train")
        return class_weights(setting, self.task, None if train is None else train.rows)


def read_data(
    resolved: ResolvedConfig, *, offline: bool, memo: Memo | None = None
) -> tuple[ResolvedConfig, RunData]:
    """Read the splits that a run trains on, chooses by and reports.

    Returns the resolved config too: what only the data tells is fixed in it, and data without a
    validation split changes it.

    Raises:
        DataError: a file is missing or bad, a split that is reported has no labels, or train has
            one answer for all rows.
    """
    memo = memo or Memo()
    source = _source(resolved, offline)
    settled = memo.get(("settle", *_section(resolved)), partial(resolved.task.settle, source))
    resolved = resolved.settled(settled)
    task, config = resolved.task, resolved.config
    if not source.files("validation") and config.selection.split == "validation":
        resolved = with_holdout(resolved)
    resolved = _without_missing_test(resolved, source)
    config = resolved.config
    wanted = dict.fromkeys(["train", config.selection.split, *(config.report or ())])
    splits: dict[str, Split] = {}
    for name in wanted:
        if name != "holdout":
            limit, seed = config.task.limit, config.train.seed
            read = partial(read_limited, task, source, name, limit, seed)
            count = getattr(limit, name)
            key = (count,) if limit.sample == "first" else (count, limit, seed)
            splits[name] = memo.get(("read", *_section(resolved), name, *key), read)
    if "holdout" in wanted:
        assert config.selection.fraction is not None
        splits["train"], splits["holdout"] = hold_out(
            task, splits["train"], config.selection.fraction, config.train.seed
        )
    for name, split in splits.items():
        _require_labels(task, name, split)
    _require_metric(resolved, splits[config.selection.split])
    if resolved.method.trains:
        _require_answers(task, splits["train"], config.task.limit.train)
    return resolved, RunData(
        task, splits, demonstrations=draw(resolved, splits["train"].rows), room=resolved.room
    )


def read_split(resolved: ResolvedConfig, split: str, data: Path | None, *, offline: bool) -> Split:
    """One split for `ptv2 eval`: of the run's data, or of another folder or file.

    Raises:
        DataError: a file is missing or bad, or its rows are unlabelled.
    """
    task, config = resolved.task, resolved.config
    if data is None:
        if split == "holdout":
            return read_data(resolved, offline=offline)[1].splits["holdout"]
        source = _source(resolved, offline)
        found = read_limited(task, source, split, config.task.limit, config.train.seed)
    else:
        how = reading_of(config.task)
        given = FolderSource(data, how) if data.is_dir() else FileSource(data, how)
        found = task.read(given, split)
    _require_labels(task, split, found)
    return found


def make_encoder(
    resolved: ResolvedConfig, tokenizer: Any, demonstrations: Sequence[Row] = ()
) -> Encoder:
    """The encoder of a run, with the template of a method or a head that has one.

    Raises:
        ConfigError: `max_len` leaves no room for text, or a label's word is no single token.
    """
    config = resolved.config
    assert config.task.max_len is not None
    encoder = Encoder(
        tokenizer,
        config.task.max_len,
        config.task.truncation or resolved.task.truncation,
        _template(resolved),
        ahead=resolved.verbalizes and resolved.shape.family.causal,
        causal=resolved.shape.family.causal,
    )
    if resolved.verbalizes:  # also where nothing is shown: a wrong word is told before the weights
        task, tokens = resolved.task, label_tokens(resolved, encoder)
        words = dict(zip(task.labels, tokens, strict=True))
        shown = render_demonstrations(encoder, task.columns, demonstrations, words, task.gold_key)
        encoder = encoder.showing(shown)
    return encoder


def label_tokens(resolved: ResolvedConfig, encoder: Encoder) -> list[int]:
    """The token of each label's word.

    Raises:
        ConfigError: a word that is no single token.
    """
    words = resolved.config.head.words
    assert words is not None
    return word_tokens(encoder, words, resolved.task.labels)


def _section(resolved: ResolvedConfig) -> tuple[Any, ...]:
    """All that the rows of a split depend on, but for `limit`."""
    section = resolved.config.task.model_dump(
        exclude={"max_len", "truncation", "limit", "demonstrations"}
    )
    return (*sorted(section.items()), resolved.task.version)


def _source(resolved: ResolvedConfig, offline: bool) -> DataSource:
    """Where the config says the data is."""
    return resolved.task.open(resolved.config.task, offline)


def _without_missing_test(resolved: ResolvedConfig, source: DataSource) -> ResolvedConfig:
    """Drop a test split that is reported by default only and that the source lacks."""
    report = resolved.config.report or ()
    if "test" in report and not resolved.report_asked and not source.files("test"):
        return resolved.reporting(tuple(split for split in report if split != "test"))
    return resolved


def _require_labels(task: Task, name: str, split: Split) -> None:
    unlabelled = next((i for i, row in enumerate(split.rows) if task.gold(row) is None), None)
    if unlabelled is not None:
        file = split.files[0] if split.files else name
        raise DataError.at(
            str(file),
            f"row {unlabelled + 1} of the {name} split has no label, so it cannot be scored",
            "leave this split out of selection and report",
        )


def _require_metric(resolved: ResolvedConfig, split: Split) -> None:
    """See that the metric which chooses the epoch has a value on the split that chooses it."""
    selection = resolved.config.selection
    why = resolved.task.undefined(split.rows).get(selection.metric or "")
    if why is not None:
        raise DataError.at(
            ", ".join(map(str, split.files)) or selection.split,
            f"selection.metric {selection.metric} has no value on {selection.split}: {why}",
            f"--set selection.metric={resolved.task.metric}, or choose on a split with every class",
        )


def _require_answers(task: Task, train: Split, limit: int | None) -> None:
    """See that train has rows with different answers."""
    answer = task.only_answer(train.rows)
    if answer is not None:
        count = len(train.rows)
        rows = f"all {count} train rows have" if count > 1 else "the one train row has"
        sample = ", or add sample: stratified" if task.classed else ""
        raise DataError.at(
            ", ".join(map(str, train.files)) or "train",
            f"{rows} {answer}: nothing to learn",
            f"raise task.limit.train (now {limit}){sample}"
            if limit
            else "train on rows that have different answers",
        )


def _template(resolved: ResolvedConfig) -> Template | None:
    if not resolved.method.uses_template:
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
