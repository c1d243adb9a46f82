"""The features of many rows in flat arrays: a feature is an object only while it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ptv2_cli.inputs.features import Feature, Label
from ptv2_cli.inputs.labels import Labels
from ptv2_cli.inputs.ragged import Ints, Ragged, bounds, places

Array = npt.NDArray[Any]
AT_ONCE = 1 << 14
"""Features whose tokens are counted at once, which bounds the memory that it takes."""


@dataclass(frozen=True, eq=False)
class FeatureTable(Sequence[Feature]):
    """F features with I inputs and N tokens in all; see `Feature` for what each column means.

    Every feature has one input, but for questions: theirs are the inputs of their choices.
    """

    ids: Ragged
    """The token ids of each input, int32."""
    rows: npt.NDArray[np.int32]
    """[F]"""
    types: npt.NDArray[np.uint8] | None = None
    """[N]"""
    labels: Labels | None = None
    slots: npt.NDArray[np.int32] | None = None
    """[N]"""
    mask_at: npt.NDArray[np.int32] | None = None
    """[I]"""
    words: npt.NDArray[np.int32] | None = None
    """[N], -1 where no word is read."""
    offsets: npt.NDArray[np.int32] | None = None
    """[N, 2], -1 outside of the context."""
    tasks: npt.NDArray[np.int32] | None = None
    """[F]; None: all 0."""
    cls_at: npt.NDArray[np.int32] | None = None
    """[I]; None: all 0."""
    truncated: npt.NDArray[np.bool_] | None = None
    """[I]; None: no text was cut off."""
    left_out: npt.NDArray[np.int32] | None = None
    """[I]; None: nothing was left out."""
    choices: npt.NDArray[np.int64] | None = None
    """[F + 1]: the first input of each question; None: every feature is an input."""

    @classmethod
    def of(cls, features: Sequence[Feature]) -> FeatureTable:
        """The same features in arrays; a table is given back as it is.

        Raises:
            TypeError: some of the features lack what others have.
            OverflowError: a number that is too large for its column.
        """
        if isinstance(features, FeatureTable):
            return features
        inputs = [item for feature in features for item in feature.inputs]
        asked = [feature.choices is not None for feature in features]
        if any(asked) and not all(asked):
            raise TypeError("features with choices and features without any")

        def tokens(name: str, dtype: npt.DTypeLike, blank: Any = -1) -> Any:
            lists = [getattr(item, name) for item in inputs]
            if None in lists:
                if any(values is not None for values in lists):
                    raise TypeError(f"some features have {name}, others have none")
                return None
            flat = [blank if value is None else value for values in lists for value in values]
            return np.array(flat, dtype).reshape(len(flat), *np.shape(blank))

        def each(name: str, items: Sequence[Feature], dtype: npt.DTypeLike = np.int32) -> Any:
            values = [getattr(item, name) for item in items]
            return np.array(values, dtype) if any(values) else None

        masks = [item.mask_at for item in inputs]
        return cls(
            ids=Ragged.of(item.input_ids for item in inputs),
            rows=np.array([feature.row for feature in features], np.int32),
            types=tokens("token_type_ids", np.uint8),
            labels=Labels.of([feature.label for feature in features]),
            slots=tokens("slots", np.int32),
            mask_at=None
            if all(at is None for at in masks)
            else np.array([-1 if at is None else at for at in masks], np.int32),
            words=tokens("words", np.int32),
            offsets=tokens("offsets", np.int32, (-1, -1)),
            tasks=each("task", features),
            cls_at=each("cls_at", inputs),
            truncated=each("truncated", inputs, np.bool_),
            left_out=each("left_out", inputs),
            choices=bounds(np.array([len(feature.inputs) for feature in features], np.int64))
            if any(asked)
            else None,
        )

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Feature: ...

    @overload
    def __getitem__(self, index: slice) -> FeatureTable: ...

    def __getitem__(self, index: int | slice) -> Feature | FeatureTable:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        at = range(len(self))[index]
        row = int(self.rows[at])
        task = 0 if self.tasks is None else int(self.tasks[at])
        label = None if self.labels is None else self.labels[at]
        if self.choices is None:
            return self._input(at, row, task, label)
        first, end = self.choices[at : at + 2].tolist()
        inputs = tuple(self._input(number, row, task) for number in range(first, end))
        longest = max(inputs, key=lambda item: len(item.input_ids))
        cut = any(item.truncated for item in inputs)
        return replace(longest, label=label, truncated=cut, choices=inputs)

    def __iter__(self) -> Iterator[Feature]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _input(self, at: int, row: int, task: int, label: Label = None) -> Feature:
        """One model input."""
        start, end = self.ids.starts[at : at + 2].tolist()
        offsets = None if self.offsets is None else self.offsets[start:end].tolist()
        words = None if self.words is None else self.words[start:end].tolist()
        mask_at = -1 if self.mask_at is None else int(self.mask_at[at])
        return Feature(
            row=row,
            input_ids=self.ids.values[start:end].tolist(),
            token_type_ids=None if self.types is None else self.types[start:end].tolist(),
            label=label,
            slots=None if self.slots is None else self.slots[start:end].tolist(),
            mask_at=None if mask_at < 0 else mask_at,
            words=None if words is None else [None if word < 0 else word for word in words],
            offsets=None
            if offsets is None
            else [None if pair[0] < 0 else (pair[0], pair[1]) for pair in offsets],
            task=task,
            cls_at=0 if self.cls_at is None else int(self.cls_at[at]),
            truncated=self.truncated is not None and bool(self.truncated[at]),
            left_out=0 if self.left_out is None else int(self.left_out[at]),
        )

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each feature [F]; of a question, those of its longest choice."""
        if self.choices is None:
            return self.ids.lengths
        return np.maximum.reduceat(self.ids.lengths, self.choices[:-1])

    @cached_property
    def tokens(self) -> npt.NDArray[np.int64]:
        """Tokens of all inputs of each feature [F]."""
        return self.ids.lengths if self.choices is None else np.diff(self._token_starts)

    @property
    def _token_starts(self) -> npt.NDArray[np.int64]:
        """The first token of each feature [F + 1]."""
        return self.ids.starts if self.choices is None else self.ids.starts[self.choices]

    @property
    def truncated_rows(self) -> int:
        """How many rows lost text that no window shows."""
        if self.truncated is None:
            return 0
        return len(np.unique(self.rows[self._any_input(self.truncated)]))

    @property
    def lacking_demonstrations(self) -> int:
        """How many features have no room for all demonstrations."""
        return 0 if self.left_out is None else int(self._any_input(self.left_out > 0).sum())

    def _any_input(self, values: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether any input of each feature has a value that is true [F]."""
        if self.choices is None:
            return values
        return np.logical_or.reduceat(values, self.choices[:-1])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.columns().values())

    def columns(self) -> dict[str, Array]:
        """The arrays that it has, by name."""
        flat = {"ids": self.ids.values, "starts": self.ids.starts}
        if self.labels is not None:
            flat |= {f"labels.{name}": array for name, array in vars(self.labels).items()}
        rest = {item.name: getattr(self, item.name) for item in fields(self)}
        flat |= {name: array for name, array in rest.items() if name not in {"ids", "labels"}}
        return {name: array for name, array in flat.items() if array is not None}

    @classmethod
    def from_columns(cls, columns: dict[str, Array]) -> FeatureTable:
        """The table of these arrays, as `columns` gives them."""
        rest = dict(columns)
        ids = Ragged(rest.pop("ids"), rest.pop("starts"))
        start = "labels."
        of_labels = {name: rest.pop(name) for name in columns if name.startswith(start)}
        labels = {name.removeprefix(start): array for name, array in of_labels.items()}
        return cls(ids=ids, labels=Labels(**labels) if labels else None, **rest)

    def take(self, indices: Ints) -> FeatureTable:
        """The features of these indices, in their order."""
        inputs, choices = np.asarray(indices, np.int64), None
        if self.choices is not None:
            counts = np.diff(self.choices)[indices]
            inputs, choices = places(self.choices[:-1][indices], counts), bounds(counts)
        tokens = places(self.ids.starts[:-1][inputs], self.ids.lengths[inputs])
        picks: dict[str, Ints] = {
            "types": tokens,
            "slots": tokens,
            "words": tokens,
            "offsets": tokens,
        }
        picks |= dict.fromkeys(("mask_at", "cls_at", "truncated", "left_out"), inputs)
        picks |= {"rows": indices, "tasks": indices}
        taken = {
            name: array[pick]
            for name, pick in picks.items()
            if (array := getattr(self, name)) is not None
        }
        return FeatureTable(
            ids=Ragged(self.ids.values[tokens], bounds(self.ids.lengths[inputs])),
            labels=None if self.labels is None else self.labels.take(indices),
            choices=choices,
            **taken,
        )

    def labelled(self, labels: Sequence[Label]) -> FeatureTable:
        """The same features with these labels."""
        return replace(self, labels=Labels.of(labels))

    def continued(self, ids: Ragged) -> FeatureTable:
        """The same features, whose inputs go on after their tokens; `ids` are all of each input."""
        # The places of the old tokens among the new ones.
        old = places(ids.starts[:-1], self.ids.lengths)

        def longer(values: Array | None, blank: int) -> Array | None:
            if values is None:
                return None
            wide = np.full((len(ids.values), *values.shape[1:]), blank, values.dtype)
            wide[old] = values
            return wide

        return replace(self, ids=ids, types=longer(self.types, 0), slots=longer(self.slots, -1))

    def of_rows(self, rows: Sequence[int] | Ints) -> FeatureTable:
        """The same features as those of other rows."""
        return replace(self, rows=np.asarray(rows, np.int32))

    def of_task(self, task: int) -> FeatureTable:
        """The same features, which belong to one of several tasks."""
        return replace(self, tasks=np.full(len(self), task, np.int32))

    def as_choices(self, counts: Sequence[int]) -> FeatureTable:
        """Questions, the inputs of which are the next of these features, `counts` each."""
        return replace(
            self,
            rows=np.arange(len(counts), dtype=np.int32),
            choices=bounds(np.array(counts, np.int64)),
        )

    def count_tokens(self, tokens: Sequence[int]) -> npt.NDArray[np.int64]:
        """How many tokens of each feature are among these [F]."""
        counts = np.zeros(len(self), np.int64)
        starts, wanted = self._token_starts, np.array(tokens, np.int32)
        for first in range(0, len(self), AT_ONCE):
            ends = starts[first : first + AT_ONCE + 1]
            hits = np.isin(self.ids.values[ends[0] : ends[-1]], wanted)
            counts[first : first + AT_ONCE] = np.diff(bounds(hits.view(np.uint8))[ends - ends[0]])
        return counts
