"""Prefix-Tuning+: a trained matrix outside the softmax replaces prompt keys and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ptv2_cli.config.schema import RunConfig
from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.layers import Layers, attention_places, parse_layers
from ptv2_cli.methods.spec import MethodSpec, TrainDefaults, frozen_defaults

if TYPE_CHECKING:
    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

LEARNING_RATES = {"sequence": 5e-3, "regression": 5e-3, "choice": 5e-3, "token": 5e-3, "span": 5e-3}


class PrefixTuningPlus(MethodSpec):
    """Trains a matrix M for each key and value head; attention adds elu(q) M for each query q."""

    uses_prompt: ClassVar[bool] = False
    layers: Layers | None = Field(
        None, description="layers that get a matrix: 17-24, 1,3,5, first:8, last:8; default: all"
    )

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """Our starting point: 5e-3; 2e-2 collapses on tags."""
        return frozen_defaults(LEARNING_RATES, kind)

    def build(self, context: Context) -> Method:
        """Matrices [1, K, D, D] for each site in `layers`."""
        from ptv2_cli.methods.prefix_memory import PrefixMemory

        stacks = Counter(site.stack for site in context.sites)
        return PrefixMemory(context, self._layers_by_stack(stacks))

    @property
    def inside_attention(self) -> str | None:
        """A matrix is applied to the queries, and the product is added."""
        return "a matrix applied to queries beside the softmax"

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Layers that the model does not have."""
        try:
            self._layers_by_stack(stacks)
        except ValueError as error:
            yield "layers", str(error)

    def occupies(self, stacks: Mapping[Stack, int]) -> tuple[str, ...]:
        """The attention of each layer that gets a matrix."""
        return attention_places(self._layers_by_stack(stacks))

    def unprompted_layers(self, stacks: Mapping[Stack, int]) -> int:
        """The layers below the lowest of `layers`; 0 for encoder-decoders with cross attention."""
        lowest = min(min(layers) for layers in self._layers_by_stack(stacks).values())
        return 0 if "cross" in stacks else lowest

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """The layers."""
        parts = [
            f"{len(layers)} of {stacks[stack]} {'' if stack == 'self' else f'{stack} '}layers"
            for stack, layers in self._layers_by_stack(stacks).items()
        ]
        return f"a matrix for each head, applied to its queries, in {', '.join(parts)}"

    def _layers_by_stack(self, stacks: Mapping[Stack, int]) -> dict[Stack, tuple[int, ...]]:
        """The layers of each stack that get matrices, from 0."""
        return {stack: parse_layers(self.layers, count) for stack, count in stacks.items()}
