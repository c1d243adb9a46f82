"""Sites, where prompts can enter a backbone, and the prompts that a method puts there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from ptv2_cli.rng import RowDraws

Stack = Literal["self", "encoder", "decoder", "cross"]
"""self: the one stack of a model that has one; cross: a decoder's attention to its encoder."""

KeysValues: TypeAlias = "tuple[Tensor, Tensor]"
"""Prompt keys and values of one site, each [R, K, P, D]; R is 1, B or the number of owners."""


Edit: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""What a method makes of a module's output: from its input [..., I] and its output [..., O] to
another output [..., O]. Each token is computed by itself."""


class TextBatch(Protocol):
    """The part of a batch that a backbone reads."""

    @property
    def input_ids(self) -> Tensor:
        """Token ids [B, T]."""

    @property
    def attention_mask(self) -> Tensor:
        """1 for tokens, 0 for padding [B, T]."""

    @property
    def token_type_ids(self) -> Tensor | None:
        """Segment ids [B, T] for models that read them."""

    @property
    def slots(self) -> Tensor | None:
        """Index of the input vector at each position [B, T], -1 for text; None: no template."""

    @property
    def lengths(self) -> tuple[int, ...] | None:
        """Tokens of each row [B], where they are known without a look at the mask."""

    @property
    def decoder_ids(self) -> Tensor | None:
        """What a decoder reads after its start token [B, U - 1]; None: nothing."""

    @property
    def draws(self) -> tuple[RowDraws, ...] | None:
        """What determines the backbone's dropout; None: the global generator."""


@dataclass(frozen=True)
class PlainBatch:
    """A TextBatch of given tensors."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None = None
    slots: Tensor | None = None
    lengths: tuple[int, ...] | None = None
    decoder_ids: Tensor | None = None
    draws: tuple[RowDraws, ...] | None = None


@dataclass(frozen=True)
class Site:
    """One attention call in one forward pass."""

    module: str
    """Dotted name of the attention module in the model."""
    call: int
    """Number of this call among the calls of the module in a forward pass, from 0."""
    heads: int
    """Key and value heads, K."""
    head_size: int
    """Width of a head, D."""
    causal: bool
    stack: Stack
    layer: int
    """The layer of its stack that makes the call, from 0."""

    @property
    def width(self) -> int:
        """Values of one prompt position at this site: keys and values, 2 * K * D."""
        return 2 * self.heads * self.head_size


@dataclass(frozen=True)
class InputVectors:
    """Prompt vectors among the word embeddings [P, E]."""

    vectors: Tensor
    column: int | None
    """Insert all before this token column; None: fill the batch's `slots`."""


@dataclass(frozen=True)
class StateGate:
    """Makes a factor for each position of a prompt from a hidden state; see `state_gates`."""

    weight: Tensor
    """[R, H, P]"""
    scale: Tensor
    """[R]"""


@dataclass(frozen=True)
class Prompts:
    """What a method puts into one forward pass."""

    keys_values: Mapping[int, KeysValues] | None = None
    """Site index -> keys and values."""
    mask: Tensor | Mapping[int, Tensor] | None = None
    """Which prompt positions a row sees [R, P], bool, at all sites or by site; None: all."""
    offset: int | Tensor = 0
    """Positions by which the text's absolute positions are shifted, of all rows or of each [B]."""
    inputs: InputVectors | None = None
    gates: Mapping[int, Tensor] | None = None
    """Site index -> a factor for each key and value head [R, K]. The prompt of such a site has a
    softmax of its own, and what it gives is added, times the factor, to what the text gives: 0
    changes nothing. None: prompt and text share one softmax."""
    state_gates: Mapping[int, StateGate] | None = None
    """Site index -> what makes the factors of its keys and values, from each row's first token."""
    memories: Mapping[int, Tensor] | None = None
    """Site index -> matrices M [R, K, D, D]. elu(q) M is added to what attention gives a query q:
    0 changes nothing. See `prefix_memory`."""
    lengths: Mapping[int, tuple[int, ...]] | None = None
    """Site index -> each owner's own P, where they differ."""
    rows: tuple[int, ...] | None = None
    """How many rows of the batch, one after another, each of R owners has; None: R is 1 or B."""
    edits: Mapping[str, Edit] | None = None
    """Name of a module, as `Injection.attach` gave it -> what becomes of its output."""

    @property
    def sites(self) -> set[int]:
        """The sites at which they change attention."""
        return {*(self.keys_values or ()), *(self.memories or ())}
