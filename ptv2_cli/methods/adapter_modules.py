"""The modules of adapters: bottlenecks, and where each of them reads and adds."""

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
"""Of each stack, the layers that get adapters, from 0."""

HOULSBY_STD = 1e-2
"""Of both projections at the start (arXiv 1902.00751, section 3.1), cut off at two of them."""
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
        """What is added to a part's output [..., H]."""
        if not torch.is_autocast_enabled(states.device.type):
            states = states.to(self.down.weight.dtype)
        inner = _FUNCTIONS[self.activation](self.down(states))
        outer: Tensor = self.up(inner)
        return outer if self.scale == 1.0 else self.scale * outer


class _Adapters(Method):
    """Bottlenecks at the parts of some layers."""

    def __init__(self, context: Context, layers: Layers) -> None:
        super().__init__()
        self.parts = [
            part for part in context.parts() if part.site.layer in layers[part.site.stack]
        ]
        self.lowest = min(part.site.layer for part in self.parts)

    def counts(self) -> dict[str, int]:
        """The values of all bottlenecks."""
        total = sum(parameter.numel() for parameter in self.parameters())
        return {**super().counts(), "adapter": total}


class SequentialAdapters(_Adapters):
    """An adapter behind each attention and each feed-forward part; forward gives their edits.

    A module that serves several layers (ALBERT) has one adapter, which serves them too.
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
        """What becomes of the output of each part."""
        pairs = zip(self.names, self.adapters, strict=True)
        return Prompts(edits={name: partial(_behind, adapter) for name, adapter in pairs})


class ParallelAdapters(_Adapters):
    """An adapter beside each feed-forward part; forward gives their edits."""

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
            bound = adapter.down.in_features**-0.5  # as LoRA begins: A is drawn, B is zero
            with torch.no_grad():
                adapter.down.weight.uniform_(-bound, bound, generator=context.init)
            nn.init.zeros_(adapter.up.weight)

    def forward(self) -> Prompts:
        """The first module of each part is read, the output of the last one changes."""
        edits: dict[str, Edit] = {}
        for (first, last), adapter in zip(self.names, self.adapters, strict=True):
            branch = _Branch(adapter)
            edits |= {first: branch.read, last: branch.add}
        return Prompts(edits=edits)


class _Branch:
    """An adapter on its way past a part in one forward pass."""

    def __init__(self, adapter: nn.Module) -> None:
        self._adapter = adapter
        self._added: Tensor | None = None

    def read(self, inputs: Tensor, output: Tensor) -> Tensor:
        """Compute the adapter on the part's input; its first module is as before."""
        self._added = self._adapter(inputs)
        return output

    def add(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The output of the part's last module with that of the adapter."""
        assert self._added is not None
        added, self._added = self._added, None
        return output + added.to(output.dtype)


def _behind(adapter: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
    added: Tensor = adapter(output)
    return output + added.to(output.dtype)


def _outputs(parts: Iterable[LayerParts]) -> Mapping[str, int]:
    """The modules that end an attention or a feed-forward part, and their widths."""
    widths: dict[str, int] = {}
    for part in parts:
        widths[part.attention_output] = part.width
        if part.feed_forward is not None:
            widths[part.feed_forward[1]] = part.width
    return widths


def _truncated_normal_(tensor: Tensor, std: float, source: torch.Generator) -> None:
    """N(0, std), drawn again where it is further than two standard deviations from 0."""
    normal_(tensor, std, source)
    with torch.no_grad():
        while bool((far := tensor.abs() > 2 * std).any()):
            again = torch.empty(int(far.sum()), dtype=tensor.dtype)
            normal_(again, std, source)
            tensor[far] = again
