"""The modules of adapters: bottleneck networks, and the edits that apply them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.backbones.layer_parts import LayerParts
from ptv2_cli.backbones.sites import Edit, Prompts, Stack
from ptv2_cli.methods.base import Context, Method
from ptv2_cli.rng import normal_

Layers = Mapping[Stack, Sequence[int]]
"""The layers of each stack that get adapters, from 0."""

HOULSBY_STD = 1e-2
"""Initial standard deviation of both projections, truncated at two of them (arXiv 1902.00751)."""
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "silu": F.silu,
}


class Bottleneck(nn.Module):
    """scale * up(activation(down(x))): [..., H] -> [..., r] -> [..., H]."""

    def __init__(self, width: int, size: int, activation: str, scale: float = 1.0) -> None:
        super().__init__()
        self.down = nn.Linear(width, size)
        self.up = nn.Linear(size, width)
        self.activation = activation
        self.scale = scale
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """The term that is added to a part's output [..., H]."""
        if not torch.is_autocast_enabled(states.device.type):
            states = states.to(self.down.weight.dtype)
        inner = _FUNCTIONS[self.activation](self.down(states))
        outer: Tensor = self.up(inner)
        return outer if self.scale == 1.0 else self.scale * outer


class _Adapters(Method):
    """Base class: bottlenecks at the parts of some layers."""

    def __init__(self, context: Context, layers: Layers) -> None:
        super().__init__()
        self.parts = [
            part for part in context.parts() if part.site.layer in layers[part.site.stack]
        ]
        self.lowest = min(part.site.layer for part in self.parts)

    def counts(self) -> dict[str, int]:
        """The number of values of all bottlenecks."""
        total = sum(parameter.numel() for parameter in self.parameters())
        return {**super().counts(), "adapter": total}


class SequentialAdapters(_Adapters):
    """An adapter after each attention and each feed-forward part; forward returns their edits.

    A module that several layers share (ALBERT) has one adapter, which they share too.
    """

    def __init__(self, context: Context, layers: Layers, size: int, activation: str) -> None:
        super().__init__(context, layers)
        widths = _outputs(self.parts)
        self.names = list(widths)
        bottlenecks = [Bottleneck(width, size, activation) for width in widths.values()]
        self.adapters = nn.ModuleList(bottlenecks)
        for adapter in bottlenecks:
            for linear in (adapter.down, adapter.up):
                _truncated_normal_(linear.weight, HOULSBY_STD, context.init)

    def forward(self) -> Prompts:
        """An edit of the output of each part."""
        pairs = zip(self.names, self.adapters, strict=True)
        return Prompts(edits={name: partial(_behind, adapter) for name, adapter in pairs})


class ParallelAdapters(_Adapters):
    """An adapter parallel to each feed-forward part; forward returns their edits."""

    def __init__(
        self,
        context: Context,
        layers: Layers,
        size: int,
        activation: str,
        scale: float,
    ) -> None:
        super().__init__(context, layers)
        widths = {part.feed_forward: part.width for part in self.parts if part.feed_forward}
        self.names = list(widths)
        bottlenecks = [Bottleneck(width, size, activation, scale) for width in widths.values()]
        self.adapters = nn.ModuleList(bottlenecks)
        for adapter in bottlenecks:
            bound = adapter.down.in_features**-0.5  # LoRA's initial values: A uniform, B zero
            with torch.no_grad():
                adapter.down.weight.uniform_(-bound, bound, generator=context.init)
            nn.init.zeros_(adapter.up.weight)

    def forward(self) -> Prompts:
        """Two edits for each part: one reads its first module's input, one changes its output."""
        edits: dict[str, Edit] = {}
        for (first, last), adapter in zip(self.names, self.adapters, strict=True):
            branch = _Branch(adapter)
            edits |= {first: branch.read, last: branch.add}
        return Prompts(edits=edits)


class _Branch:
    """The output of a parallel adapter, from a part's first module to its last."""

    def __init__(self, adapter: nn.Module) -> None:
        self._adapter = adapter
        self._added: Tensor | None = None

    def read(self, inputs: Tensor, output: Tensor) -> Tensor:
        """Apply the adapter to the part's input; leave the output of the first module unchanged."""
        self._added = self._adapter(inputs)
        return output

    def add(self, inputs: Tensor, output: Tensor) -> Tensor:
        """Add the adapter's output to that of the part's last module."""
        assert self._added is not None
        added, self._added = self._added, None
        return output + added.to(output.dtype)


def _behind(adapter: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
    added: Tensor = adapter(output)
    return output + added.to(output.dtype)


def _outputs(parts: Iterable[LayerParts]) -> Mapping[str, int]:
    """The last modules of attention and feed-forward parts, and their widths."""
    widths: dict[str, int] = {}
    for part in parts:
        widths[part.attention_output] = part.width
        if part.feed_forward is not None:
            widths[part.feed_forward[1]] = part.width
    return widths


def _truncated_normal_(tensor: Tensor, std: float, source: torch.Generator) -> None:
    """N(0, std), truncated: values beyond two standard deviations are drawn again."""
    normal_(tensor, std, source)
    with torch.no_grad():
        while bool((far := tensor.abs() > 2 * std).any()):
            again = torch.empty(int(far.sum()), dtype=tensor.dtype)
            normal_(again, std, source)
            tensor[far] = again
