"""A forward pass in two parts: the layers below the lowest prompt, and those above them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.injection import injection_of
from ptv2_cli.backbones.sites import Prompts, TextBatch


@dataclass(frozen=True)
class _Step:
    """One call of one layer's module in a forward pass."""

    unit: nn.Module
    top: int
    """The highest of the layers that it computes: one of ALBERT's groups may hold several."""


class _Reached(Exception):
    """Leaves a forward pass after its last lower layer, with that layer's output."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class LayerSplit:
    """Runs the lower layers of a backbone alone, and the upper ones on given hidden states.

    No model code is copied. `lower` leaves the forward pass by an exception after the last lower
    layer; `upper` replaces the lower layers by functions that return the given hidden states.
    The rest of the model (embeddings, masks, positions, the last norm) runs unchanged, so the
    result is wrong for a family whose layers pass on more than hidden states: see `check_lower`.

    Attributes:
        model: the module that the layers belong to.
        layers: L, of the stack that computes the backbone's hidden states.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.model = backbone.model
        self.layers = 1 + max(site.layer for site in backbone.sites)
        self._names: dict[nn.Module, tuple[str, ...]] = {}
        self._steps: list[_Step] = []
        self._extra: int | None = None  # items of a layer's output after the hidden states
        self._owners = owners = _owners(self.model)
        tops: dict[tuple[nn.Module, int], int] = {}
        for site in backbone.sites:
            unit = owners.get(site.module)
            if unit is not None:
                tops[unit, site.call] = site.layer
                names = self._names.get(unit, ())
                self._names[unit] = names if site.module in names else (*names, site.module)
        self._steps = [_Step(unit, top) for (unit, _), top in tops.items()]

    def depth(self, backbone: Backbone, prompts: Prompts) -> int:
        """The number of layers below the lowest prompt or edit; L without any."""
        if prompts.inputs is not None:
            return 0
        if not prompts.sites and not prompts.edits:
            return self.layers
        if backbone.decodes:
            return 0
        changed = [backbone.sites[site].layer for site in prompts.sites]
        changed += [self._layer_of(name) for name in prompts.edits or ()]
        return max((step.top + 1 for step in self._below(min(changed))), default=0)

    def _layer_of(self, name: str) -> int:
        """The lowest layer that a module computes; 0 for one outside of all layers."""
        unit = self._owners.get(name)
        return min((step.top for step in self._steps if step.unit is unit), default=0)

    def lower(self, backbone: Backbone, batch: TextBatch, prompts: Prompts, depth: int) -> Tensor:
        """The output of the first `depth` layers [B, T, H], without a graph.

        With all layers it is the output of the whole backbone, [B, 1, H] from a decoder.
        """
        with torch.no_grad():
            if depth == self.layers:
                return backbone(batch, prompts)  # type: ignore[no-any-return]
            steps = self._below(depth)
            unit = steps[-1].unit
            calls = sum(step.unit is unit for step in steps)

            def leave(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                output = forward(*args, **kwargs)
                calls -= 1
                if calls == 0:
                    raise _Reached(output)
                return output

            try:
                with _replaced(unit, leave):
                    backbone(batch, prompts, packs=False)
            except _Reached as reached:
                output = reached.output
        self._extra = None if isinstance(output, Tensor) else len(output) - 1
        hidden: Tensor = output if self._extra is None else output[0]
        return hidden

    def upper(
        self, backbone: Backbone, batch: TextBatch, prompts: Prompts, depth: int, states: Tensor
    ) -> Tensor:
        """The backbone's hidden states [B, T, H], from those of its first `depth` layers.

        `lower` must have run before: it learns the form of a layer's output.
        """
        output = states if self._extra is None else (states, *[None] * self._extra)
        left = Counter(step.unit for step in self._below(depth))
        injection = backbone.injection

        def skip(unit: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if left[unit] == 0:  # ALBERT's one module also serves the layers above
                return forward(*args, **kwargs)
            left[unit] -= 1
            for name in self._names[unit]:
                injection.take(name)  # count the calls that its attention would have made
            return output

        with ExitStack() as stack:
            for unit in list(left):
                stack.enter_context(_replaced(unit, partial(skip, unit)))
            hidden: Tensor = backbone(batch, prompts, packs=False)
        return hidden

    def _below(self, depth: int) -> list[_Step]:
        return [step for step in self._steps if step.top < depth]


@contextmanager
def _replaced(unit: nn.Module, function: Callable[..., Any]) -> Iterator[None]:
    """Call `function(forward, ...)` in place of the module's forward in the `with` block."""
    forward = unit.forward
    was_replaced = "forward" in vars(unit)
    unit.forward = partial(function, forward)
    try:
        yield
    finally:
        if was_replaced:
            unit.forward = forward
        else:
            del unit.forward


def layers_with_sites(model: nn.Module) -> list[nn.Module]:
    """The layers that attention modules belong to, in order, each once."""
    return list(dict.fromkeys(_owners(model).values()))


def _owners(model: nn.Module) -> dict[str, nn.Module]:
    """The name of every module in a layer -> that layer, an item of an outermost list."""
    owners: dict[str, nn.Module] = {}
    for module in model.modules():  # outer modules come before inner ones
        if isinstance(module, nn.ModuleList):
            for layer in module:
                for inner in layer.modules():
                    if hasattr(inner, "_ptv2_site"):
                        owners.setdefault(injection_of(inner)[1], layer)
    return owners
