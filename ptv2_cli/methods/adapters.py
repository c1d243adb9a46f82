"""Adapters: small bottleneck networks after the parts of a layer, or parallel to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ptv2_cli.config.fields import Count
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.layers import Layers, parse_layers
from ptv2_cli.methods.spec import MethodSpec, TrainDefaults, frozen_defaults

if TYPE_CHECKING:
    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

HOULSBY_RATES = {"sequence": 1e-3, "regression": 1e-3, "choice": 1e-3, "token": 3e-3, "span": 1e-3}
PARALLEL_RATES = {
    "sequence": 2e-4,
    "regression": 2e-4,
    "choice": 2e-4,
    "token": 3e-4,
    "span": 2e-4,
}
"""For wide, scaled adapters: with r = 512 and s = 4, 1e-3 is too high for a small model."""
Activation = Literal["relu", "gelu", "tanh", "silu"]


class AdapterSpec(MethodSpec):
    """What the adapter methods have in common."""

    uses_prompt: ClassVar[bool] = False
    place: ClassVar[str]
    """Where a layer has adapters, in words that messages show."""
    layers: Layers | None = Field(
        None, description="layers that get adapters: 17-24, 1,3,5, first:8, last:8; default: all"
    )

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Layers that a stack lacks."""
        try:
            self.layers_by_stack(stacks)
        except ValueError as error:
            yield "layers", str(error)

    def unprompted_layers(self, stacks: Mapping[Stack, int]) -> int:
        """The layers below the lowest of `layers`; 0 for encoder-decoders with cross attention."""
        layers = self.layers_by_stack(stacks)
        return 0 if "cross" in stacks else min(min(numbers) for numbers in layers.values())

    def occupies(self, stacks: Mapping[Stack, int]) -> tuple[str, ...]:
        """The adapters of each layer."""
        return tuple(
            f"adapters {self.place} layer {layer + 1}{'' if stack == 'self' else f' ({stack})'}"
            for stack, layers in self.layers_by_stack(stacks).items()
            for layer in layers
        )

    def layers_by_stack(self, stacks: Mapping[Stack, int]) -> dict[Stack, tuple[int, ...]]:
        """The layers of each stack that get adapters, from 0.

        Raises:
            ValueError: a stack has no such layer.
        """
        return {stack: parse_layers(self.layers, count) for stack, count in stacks.items()}

    def described_layers(self, stacks: Mapping[Stack, int]) -> str:
        """How many layers of each stack have adapters."""
        return ", ".join(
            f"{len(layers)} of {stacks[stack]} {'' if stack == 'self' else f'{stack} '}layers"
            for stack, layers in self.layers_by_stack(stacks).items()
        )


class HoulsbyAdapter(AdapterSpec):
    """Trains two adapters in every layer: after attention and after the feed-forward part.

    Each adds `up(activation(down(h)))` to the part's output h, before the part's dropout and the
    residual sum (arXiv 1902.00751, section 2.1). The layer norms stay frozen.
    """

    place: ClassVar[str] = "after the parts of"
    bottleneck: Count = Field(64, description="width r of the adapters; the paper has 8, 64, 256")
    activation: Activation = Field("gelu", description="function between the two projections")

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """Our starting points: 1e-3, 3e-3 for tags."""
        return frozen_defaults(HOULSBY_RATES, kind)

    def build(self, context: Context) -> Method:
        """An adapter for each output projection."""
        from ptv2_cli.methods.adapter_modules import SequentialAdapters

        layers = self.layers_by_stack(Counter(site.stack for site in context.sites))
        return SequentialAdapters(context, layers, self.bottleneck, self.activation)

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """The layers and the width."""
        return (
            f"adapters of width {self.bottleneck} after attention and feed-forward in "
            f"{self.described_layers(stacks)}"
        )


class ParallelAdapter(AdapterSpec):
    """Trains a scaled adapter parallel to the feed-forward part of every layer.

    `scale * up(activation(down(x)))` of the part's input x is added to the part's output, before
    its dropout (arXiv 2110.04366: the scaled parallel adapter).
    """

    place: ClassVar[str] = "parallel to the feed-forward part of"
    bottleneck: Count = Field(512, description="width r of the adapters; 512 in the paper")
    activation: Activation = Field("relu", description="function between the two projections")
    scale: Annotated[float, Field(gt=0)] = Field(
        4.0, description="factor on the adapter's output; 4 in the paper"
    )

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """Our starting points: 2e-4, 3e-4 for tags."""
        return frozen_defaults(PARALLEL_RATES, kind)

    def build(self, context: Context) -> Method:
        """An adapter for each feed-forward part."""
        from ptv2_cli.methods.adapter_modules import ParallelAdapters

        layers = self.layers_by_stack(Counter(site.stack for site in context.sites))
        return ParallelAdapters(context, layers, self.bottleneck, self.activation, self.scale)

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """The layers, the width and the scale."""
        return (
            f"adapters of width {self.bottleneck}, times {self.scale:g}, parallel to the "
            f"feed-forward part of {self.described_layers(stacks)}"
        )
