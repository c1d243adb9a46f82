"""What every method is: a module that gives prompts, its options and its training defaults."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.lm_head import Vocabulary
from ptv2_cli.backbones.sites import KeysValues, Prompts, Site, Stack
from ptv2_cli.config.schema import Section
from ptv2_cli.kinds import kind_spec


@dataclass(frozen=True)
class TrainDefaults:
    """What `train:` says when the config does not; the source is each method's paper or ours.

    None: it means nothing, because nothing trains.
    """

    lr: float | None
    epochs: int | None
    warmup: float | None = 0.0
    weight_decay: float | None = 0.0


def frozen_defaults(lr: Mapping[str, float], kind: str) -> TrainDefaults:
    """Defaults of a method whose backbone stays frozen: no warm-up, no weight decay."""
    spec = kind_spec(kind)
    return TrainDefaults(lr=lr[spec.rates_name], epochs=spec.epochs)


@dataclass(frozen=True)
class Context:
    """What a method may know of the run it is built for."""

    sites: Sequence[Site]
    hidden_size: int
    dropout: float
    """The backbone's hidden dropout, the default of prompts and head."""
    word_embeddings: Tensor
    """The frozen input embedding table [V, E]."""
    label_pieces: Sequence[Sequence[int]]
    """Token ids of each label's words; empty for tasks without labels."""
    seed: int
    init: torch.Generator
    """Draws the initial values."""
    vocabulary: Vocabulary
    read: Callable[[Sequence[int]], Sequence[KeysValues]]
    """Keys and values [1, K, T, D] of every site that the frozen model computes for tokens."""
    trained: Callable[[str], Mapping[int, KeysValues]]
    """Keys and values [1, K, P, D] by site of the run in a folder."""


class Method(nn.Module):
    """What trains beside the head.

    Subclasses set `Options`, `uses_prompt` and `trains_backbone`, and are built from
    (options, prompt_len, context).
    """

    Options: ClassVar[type[Section]]
    uses_prompt: ClassVar[bool] = True
    """Whether `prompt_len` means anything."""
    uses_template: ClassVar[bool] = False
    """Whether prompts stand at the places of a template, which its options may give."""
    in_input: ClassVar[bool] = False
    """Whether prompts take up positions of the model's input."""
    notes: tuple[str, ...] = ()
    """What the user should know of how the prompts were made."""
    trains: ClassVar[bool] = True
    """Whether a run takes any step at all."""
    trains_backbone: bool = False
    offset: int = 0
    """Positions by which the text's own are shifted."""
    lowest: int = 0
    """The lowest layer that reads its prompts, counted from 0 in its stack."""
    backbone_lr: float | None = None
    """Learning rate of a backbone that trains; None: the run's own."""

    def __init__(self, options: Any, prompt_len: int | None, context: Context) -> None:
        super().__init__()

    @classmethod
    def defaults(cls, kind: str, options: Any) -> TrainDefaults:
        """Training defaults for a head kind under these options."""
        raise NotImplementedError

    @classmethod
    def tunes_backbone(cls, options: Any) -> bool:
        """Whether the backbone trains under these options."""
        return cls.trains_backbone

    @classmethod
    def shifts_positions(cls, options: Any) -> bool:
        """Whether the text's absolute positions begin after the prompt."""
        return False

    @classmethod
    def check(cls, options: Any, stacks: Mapping[Stack, int]) -> tuple[str, str] | None:
        """An option and what is wrong with it for a model of these stacks."""
        return None

    @classmethod
    def to_load(cls, options: Any) -> Any:
        """Options for a method whose values will be loaded, wherever they began."""
        return options

    @classmethod
    def unprompted(cls, options: Any, stacks: Mapping[Stack, int]) -> int:
        """How many layers, from the lowest, compute the same however long it trains."""
        return 0

    @classmethod
    def places(cls, options: Any, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """One line that says where prompts enter."""
        return "no prompts"

    @classmethod
    def input_column(cls, options: Any) -> int | None:
        """The token column before which input vectors stand, None if there is no such one."""
        return None

    def forward(self) -> Prompts:
        """The prompts of one forward pass."""
        return Prompts()

    def counts(self) -> dict[str, int]:
        """Trainable values: `prompt` vectors and the `reparam` network that makes them."""
        return {"prompt": 0, "reparam": 0}


class NoOptions(Section):
    """A method without options."""


_PART = re.compile(r"(\d+)(?:-(\d+))?")
_END = re.compile(r"(first|last):(\d+)")


def parse_layers(text: str | None, count: int) -> tuple[int, ...]:
    """0-based layer indices that `text` names in a model of `count` layers; None: all.

    Raises:
        ValueError: the text has another form, or names a layer that the model lacks.
    """
    if text is None:
        return tuple(range(count))
    compact = text.replace(" ", "")
    end = _END.fullmatch(compact)
    if end:
        number = _checked(int(end[2]), count)
        return tuple(range(number) if end[1] == "first" else range(count - number, count))
    chosen: set[int] = set()
    for part in compact.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"layers {text!r} is not of the form 17-24, 1,3,5, first:8 or last:8")
        low = _checked(int(match[1]), count)
        high = _checked(int(match[2] or match[1]), count)
        if low > high:
            raise ValueError(f"layers {part!r} runs backwards")
        chosen.update(range(low - 1, high))
    return tuple(sorted(chosen))


def _checked(number: int, count: int) -> int:
    if not 1 <= number <= count:
        raise ValueError(f"layer {number} does not exist: the model has layers 1 to {count}")
    return number
