"""What a row gives to a batch: its token ids, its label and what its positions mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Label = int | float | list[int] | list[float] | tuple[int, int] | None
Truncation = Literal["longest_first", "only_first", "only_second"]


@dataclass(frozen=True, slots=True)
class Feature:
    """What one row (or a window of it) gives to a batch. Lists have length T, its tokens.

    Mostly that is one model input. A question with choices is one feature too, so that all its
    choices are in one batch: `choices` are its inputs, and its own lists are those of the longest.
    """

    row: int
    """Index of the row in its split."""
    input_ids: list[int]
    token_type_ids: list[int] | None = None
    label: Label = None
    """A class, a number, the index of a choice, a tag per token (IGNORE = none), or the answer's
    first and last token (both `cls_at` when the window holds no answer). None: unlabelled row."""
    slots: list[int] | None = None
    """Index of the prompt vector at each position, -1 for text (templates only)."""
    mask_at: int | None = None
    """Position of the template's {mask}."""
    words: list[int | None] | None = None
    """Token shape: the word whose prediction is read at this position, else None."""
    offsets: list[tuple[int, int] | None] | None = None
    """Span shape: characters [start, end) of the context, None outside of it."""
    task: int = 0
    """Which of several tasks that train together it belongs to."""
    cls_at: int = 0
    """Span shape: the position that means "no answer here"; see `layout.Built`."""
    truncated: bool = False
    """Text of the row was cut off and is seen by no window."""
    left_out: int = 0
    """Demonstrations that did not fit."""
    choices: tuple[Feature, ...] | None = None
    """Choice shape: an input for each choice, in the row's order."""

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """Its model inputs."""
        return (self,) if self.choices is None else self.choices

    @property
    def tokens(self) -> int:
        """Positions of all its inputs."""
        return sum(len(item.input_ids) for item in self.inputs)
