"""The data of a run: its splits, the holdout, and features made of them on first use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.errors import DataError
from ptv2_cli.run.demonstrations import draw
from ptv2_cli.run.recipe import Recipe, with_holdout
from ptv2_cli.run.sample import read_limited
from ptv2_cli.run.shelf import Shelf
from ptv2_cli.seeding import generator
from ptv2_cli.tasks.base import DataSource, Feature, Row, Split, Task, reading_of, truncated_rows
from ptv2_cli.tasks.class_weights import ClassWeights, class_weights
from ptv2_cli.tasks.demonstrations import render
from ptv2_cli.tasks.encoder import Encoder
from ptv2_cli.tasks.multi import MultiTask
from ptv2_cli.tasks.source import FileSource, FolderSource
from ptv2_cli.tasks.template import Template, default_template, parse_template
from ptv2_cli.tasks.verbalizer import TEMPLATE, word_tokens

TRUNCATION_WARNING = 0.05
"""Share of a split's rows above which cut text is warned about."""


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

    def rows(self, split: str) -> list[Row]:
        """The rows of a split."""
        return self.splits[split].rows

    def features(self, split: str) -> list[Feature]:
        """The features of a split, encoded on first use."""
        if split not in self._features:
            assert self.encoder is not None
            self._features[split] = self.task.encode(self.rows(split), self.encoder)
        return self._features[split]

    def borrow(self, other: RunData) -> None:
        """Take over the features of splits with the very same rows, made by an equal encoder."""
        for name, features in other._features.items():
            if name in self.splits and self.rows(name) is other.rows(name):
                self._features.setdefault(name, features)

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
                **self._of_tasks(split),
            }
            for name, split in self.splits.items()
        }

    def _of_tasks(self, split: Split) -> dict[str, Any]:
        """How many rows each of several tasks has."""
        if not isinstance(self.task, MultiTask):
            return {}
        return {"tasks": self.task.counts(split.rows)}

    def overlap_warnings(self, split: str) -> list[str]:
        """Lines about rows on which one of several tasks trains and another is evaluated."""
        if not isinstance(self.task, MultiTask):
            return []
        return self.task.overlaps(self.rows("train"), self.rows(split))

    def class_weights(self, setting: ClassWeights | None) -> tuple[float, ...] | None:
        """The weight of each label [C] that `train.class_weights` means with this train split.

        None: all count alike, or `balanced` where train was not read, which predicts the same.
        """
        train = self.splits.get("train")
        return class_weights(setting, self.task, None if train is None else train.rows)

    def metric_warnings(self, splits: Iterable[str]) -> list[str]:
        """Lines about metrics that a split leaves undefined."""
        return [
            f"{metric} is left out on {name}: {why}"
            for name in splits
            for metric, why in self.task.undefined(self.rows(name)).items()
        ]

    def skipped_warnings(self) -> list[str]:
        """A line for each split of which bad rows were left out."""
        lines = []
        for name, split in self.splits.items():
            if split.bad:
                first = split.bad[0].error.problems[0]
                rows = f"{len(split.bad):,} bad row{'s' if len(split.bad) > 1 else ''}"
                lines.append(
                    f"{rows} of {name} left out, {len(split.rows):,} are used; the first: "
                    f"{first.where}: {first.what}"
                )
        return lines

    def truncation_warnings(self) -> list[str]:
        """Lines for each encoded split with cut rows, more than 5 %, or too little room."""
        lines = []
        for name, features in self._features.items():
            cut, rows = truncated_rows(features), len(self.rows(name))
            if cut > TRUNCATION_WARNING * rows:
                assert self.encoder is not None
                lines.append(
                    f"{cut} of {rows} {name} rows ({cut / rows:.0%}) are cut at "
                    f"max_len {self.encoder.max_len}{self._longer(self.encoder, 'their text')}"
                )
            less = sum(feature.left_out > 0 for feature in features)
            if less:
                assert self.encoder is not None
                lines.append(
                    f"{less} of {rows} {name} rows have no room for all "
                    f"{len(self.demonstrations)} demonstrations at max_len {self.encoder.max_len}, "
                    f"the first are left out{self._longer(self.encoder, 'them')}"
                )
        return lines

    def _longer(self, encoder: Encoder, what: str) -> str:
        """How `what` is kept: by a greater `max_len`, unless it is the greatest already."""
        if self.room is None or encoder.max_len < self.room:
            return f"; raise task.max_len to keep {what}"
        return f", the most that fits; a backbone with more positions keeps {what}"


def read_data(
    recipe: Recipe, *, offline: bool, shelf: Shelf | None = None
) -> tuple[Recipe, RunData]:
    """Read the splits that a run trains on, chooses by and reports.

    Returns the recipe too: what only the data tells is fixed in it, and data without a validation
    split changes it.

    Raises:
        DataError: a file is missing or bad, or a split that is reported has no labels.
    """
    shelf = shelf or Shelf()
    source = _source(recipe, offline)
    settled = shelf.get(("settle", *_section(recipe)), partial(recipe.task.settle, source))
    recipe = recipe.settled(settled)
    task, config = recipe.task, recipe.config
    if not source.files("validation") and config.selection.split == "validation":
        recipe = with_holdout(recipe)
    recipe = _without_missing_test(recipe, source)
    config = recipe.config
    wanted = dict.fromkeys(["train", config.selection.split, *(config.report or ())])
    splits: dict[str, Split] = {}
    for name in wanted:
        if name != "holdout":
            limit, seed = config.task.limit, config.train.seed
            read = partial(read_limited, task, source, name, limit, seed)
            count = getattr(limit, name)
            key = (count,) if limit.sample == "first" else (count, limit, seed)
            splits[name] = shelf.get(("read", *_section(recipe), name, *key), read)
    if "holdout" in wanted:
        assert config.selection.fraction is not None
        splits["train"], splits["holdout"] = hold_out(
            task, splits["train"], config.selection.fraction, config.train.seed
        )
    for name, split in splits.items():
        _require_labels(task, name, split)
    _require_metric(recipe, splits[config.selection.split])
    return recipe, RunData(
        task, splits, demonstrations=draw(recipe, splits["train"].rows), room=recipe.room
    )


def read_split(recipe: Recipe, split: str, data: Path | None, *, offline: bool) -> Split:
    """One split for `ptv2 eval`: of the run's data, or of another folder or file.

    Raises:
        DataError: a file is missing or bad, or its rows are unlabelled.
    """
    task, config = recipe.task, recipe.config
    if data is None:
        if split == "holdout":
            return read_data(recipe, offline=offline)[1].splits["holdout"]
        source = _source(recipe, offline)
        found = read_limited(task, source, split, config.task.limit, config.train.seed)
    else:
        how = reading_of(config.task)
        given = FolderSource(data, how) if data.is_dir() else FileSource(data, how)
        found = task.read(given, split)
    _require_labels(task, split, found)
    return found


def make_encoder(recipe: Recipe, tokenizer: Any, demonstrations: Sequence[Row] = ()) -> Encoder:
    """The encoder of a run, with the template of a method or a head that has one.

    Raises:
        ConfigError: `max_len` leaves no room for text, or a label's word is no single token.
    """
    config = recipe.config
    assert config.task.max_len is not None
    encoder = Encoder(
        tokenizer,
        config.task.max_len,
        config.task.truncation or recipe.task.truncation,
        _template(recipe),
        ahead=recipe.verbalizes and recipe.shape.family.causal,
        causal=recipe.shape.family.causal,
    )
    if recipe.verbalizes:  # also where nothing is shown: a wrong word is told before the weights
        task, tokens = recipe.task, label_tokens(recipe, encoder)
        words = dict(zip(task.labels, tokens, strict=True))
        encoder = encoder.showing(render(encoder, task.columns, demonstrations, words))
    return encoder


def label_tokens(recipe: Recipe, encoder: Encoder) -> list[int]:
    """The token of each label's word.

    Raises:
        ConfigError: a word that is no single token.
    """
    words = recipe.config.head.words
    assert words is not None
    return word_tokens(encoder, words, recipe.task.labels)


def hold_out(task: Task, train: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split train in two; rows of one group stay together, labels keep their shares.

    Raises:
        DataError: train is too small to give a row of it away.
    """
    draws = generator(seed, "holdout")
    held: set[int] = set()
    for groups in _strata(task, train.rows).values():
        order = torch.randperm(len(groups), generator=draws).tolist()
        wanted = round(fraction * sum(len(group) for group in groups))
        for place in order:
            if wanted <= 0:
                break
            held.update(groups[place])
            wanted -= len(groups[place])
    kept = [row for index, row in enumerate(train.rows) if index not in held]
    taken = [train.rows[index] for index in sorted(held)]
    if not kept or not taken:
        raise DataError.at(
            "selection.fraction",
            f"{fraction} of {len(train.rows)} train rows leaves one side empty",
            "give a validation file, or another fraction",
        )
    return replace(train, rows=kept), Split(taken, train.sha256, train.files)


def _section(recipe: Recipe) -> tuple[Any, ...]:
    """All that the rows of a split depend on, but for `limit`."""
    section = recipe.config.task.model_dump(
        exclude={"max_len", "truncation", "limit", "demonstrations"}
    )
    return (*sorted(section.items()), recipe.task.version)


def _source(recipe: Recipe, offline: bool) -> DataSource:
    """Where the config says the data is."""
    return recipe.task.open(recipe.config.task, offline)


def _strata(task: Task, rows: Sequence[Row]) -> dict[Any, list[list[int]]]:
    """Stratum -> groups of row indices, in the order of the rows."""
    strata: dict[Any, dict[Any, list[int]]] = {}
    for index, row in enumerate(rows):
        group = task.origin(row)
        # Rows of one paragraph may have any labels: they stay together instead.
        gold = task.gold(row) if task.classed and group is None else None
        stratum = (row["task"], gold) if task.parts else gold
        place = ("row", index) if group is None else ("group", group)
        strata.setdefault(stratum, {}).setdefault(place, []).append(index)
    return {stratum: list(groups.values()) for stratum, groups in strata.items()}


def _without_missing_test(recipe: Recipe, source: DataSource) -> Recipe:
    """Drop a test split that is reported by default only and that the source lacks."""
    report = recipe.config.report or ()
    if "test" in report and not recipe.report_asked and not source.files("test"):
        return recipe.reporting(tuple(split for split in report if split != "test"))
    return recipe


def _require_labels(task: Task, name: str, split: Split) -> None:
    unlabelled = next((i for i, row in enumerate(split.rows) if task.gold(row) is None), None)
    if unlabelled is not None:
        file = split.files[0] if split.files else name
        raise DataError.at(
            str(file),
            f"row {unlabelled + 1} of the {name} split has no label, so it cannot be scored",
            "leave this split out of selection and report",
        )


def _require_metric(recipe: Recipe, split: Split) -> None:
    """See that the metric which chooses the epoch has a value on the split that chooses it."""
    selection = recipe.config.selection
    why = recipe.task.undefined(split.rows).get(selection.metric or "")
    if why is not None:
        raise DataError.at(
            ", ".join(map(str, split.files)) or selection.split,
            f"selection.metric {selection.metric} has no value on {selection.split}: {why}",
            f"--set selection.metric={recipe.task.metric}, or choose on a split with every class",
        )


def _template(recipe: Recipe) -> Template | None:
    if not recipe.method.uses_template:
        question = recipe.config.head.template
        if question is None:
            return None
        return parse_template(question, recipe.task.columns, TEMPLATE, prompted=False)
    given = recipe.method_options.template  # type: ignore[attr-defined]
    if given is not None:
        return parse_template(given, recipe.task.columns)
    masked = recipe.config.head.pooling == "mask"
    assert recipe.config.prompt_len is not None
    return default_template(recipe.task.columns, recipe.config.prompt_len, masked)
