"""The data of a run: its splits as they are read, with a holdout if it needs one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from ptv2_cli.data.rows import DataSource, Row, Split, reading_of
from ptv2_cli.data.source import FileSource, FolderSource
from ptv2_cli.errors import DataError
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig, with_holdout
from ptv2_cli.runs.rows.row_selection import draw, hold_out, read_limited
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.class_weights import ClassWeights, class_weights

_T = TypeVar("_T")


class Memo:
    """What runs that are prepared together read once: splits, backbone files, tokenizers.

    Values by a key that says all they depend on. Do not change a value that it gives.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: tuple[Any, ...], make: Callable[[], _T]) -> _T:
        """The value of an equal key, else what `make` gives; its errors pass."""
        text = repr(key)
        if text not in self._values:
            self._values[text] = make()
        value: _T = self._values[text]
        return value


@dataclass
class RunData:
    """Splits by name, read when the run is prepared."""

    task: Task
    splits: dict[str, Split]
    demonstrations: list[Row] = field(default_factory=list)
    """Rows of train that stand before every text."""

    def rows(self, split: str) -> Sequence[Row]:
        """The rows of a split."""
        return self.splits[split].rows

    def reuse(self, other: RunData) -> list[str]:
        """The splits that have the very same rows in both."""
        return [
            name
            for name in self.splits
            if name in other.splits and self.rows(name) is other.rows(name)
        ]

    @cached_property
    def note(self) -> str | None:
        """First line of a NOTE.txt beside the data: a caveat about every score; None: no note."""
        folders = dict.fromkeys(
            file.parent for split in self.splits.values() for file in split.files
        )
        notes = (folder / "NOTE.txt" for folder in folders)
        note = next((path for path in notes if path.is_file()), None)
        lines = note.read_text(encoding="utf-8", errors="replace").splitlines() if note else []
        return next((line.strip() for line in lines if line.strip()), None)

    @cached_property
    def identities(self) -> dict[str, str]:
        """What stands for the data in the fingerprint."""
        return {f"data.{name}": split.sha256 for name, split in self.splits.items()}

    def class_weights(self, setting: ClassWeights | None) -> tuple[float, ...] | None:
        """The weight of each label [C] under `train.class_weights` with this train split.

        None: all count alike, or `balanced` where train was not read, which predicts the same.
        """
        train = self.splits.get("train")
        return class_weights(setting, self.task, None if train is None else train.rows)


def read_data(
    resolved: ResolvedConfig, *, offline: bool, memo: Memo | None = None
) -> tuple[ResolvedConfig, RunData]:
    """Read the splits for training, selection and report.

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
    return resolved, RunData(task, splits, draw(resolved, splits["train"].rows))


def read_split(resolved: ResolvedConfig, split: str, data: Path | None, *, offline: bool) -> Split:
    """A split for `ptv2 eval`: from the run's data, or from another folder or file.

    Raises:
        DataError: a file is missing or bad, or its rows are unlabelled.
    """
    task, config = resolved.task, resolved.config
    if data is None:
        if split == "holdout":
            splits = read_data(resolved, offline=offline)[1].splits
            if split not in splits:
                hint = f"--split {config.selection.split}, the split that chose the epoch"
                raise DataError.at("--split holdout", "the run held no rows out of train", hint)
            return splits[split]
        source = _source(resolved, offline)
        found = read_limited(task, source, split, config.task.limit, config.train.seed)
    else:
        how = reading_of(config.task)
        given = FolderSource(data, how) if data.is_dir() else FileSource(data, how)
        found = task.read(given, split)
    _require_labels(task, split, found)
    return found


def _section(resolved: ResolvedConfig) -> tuple[Any, ...]:
    """Everything but `limit` that the rows of a split depend on."""
    section = resolved.config.task.model_dump(
        exclude={"max_len", "truncation", "limit", "demonstrations"}
    )
    return (*sorted(section.items()), resolved.task.version)


def _source(resolved: ResolvedConfig, offline: bool) -> DataSource:
    """Where the config says the data is."""
    return resolved.task.open(resolved.config.task, offline)


def _without_missing_test(resolved: ResolvedConfig, source: DataSource) -> ResolvedConfig:
    """Drop a test split that is reported only by default and that the source lacks."""
    report = resolved.config.report or ()
    if "test" in report and not resolved.report_asked and not source.files("test"):
        return resolved.reporting(tuple(split for split in report if split != "test"))
    return resolved


def _require_labels(task: Task, name: str, split: Split) -> None:
    if task.classed and not task.parts and task.tally(split.rows).total() == len(split.rows):
        return
    unlabelled = next((i for i, row in enumerate(split.rows) if task.gold(row) is None), None)
    if unlabelled is not None:
        file = split.files[0] if split.files else name
        raise DataError.at(
            str(file),
            f"row {unlabelled + 1} of the {name} split has no label, so it cannot be scored",
            "leave this split out of selection and report",
        )


def _require_metric(resolved: ResolvedConfig, split: Split) -> None:
    """Check that the selection metric has a value on the selection split."""
    selection = resolved.config.selection
    why = resolved.task.undefined(split.rows).get(selection.metric or "")
    if why is not None:
        raise DataError.at(
            ", ".join(map(str, split.files)) or selection.split,
            f"selection.metric {selection.metric} has no value on {selection.split}: {why}",
            f"--set selection.metric={resolved.task.metric}, or choose on a split with every class",
        )


def _require_answers(task: Task, train: Split, limit: int | None) -> None:
    """Check that train has rows with different answers."""
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
