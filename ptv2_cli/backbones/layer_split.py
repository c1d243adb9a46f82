"""A forward pass in two halves: the layers below the lowest prompt, and those above them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.injection import site_of
from ptv2_cli.backbones.sites import Prompts, TextBatch


@dataclass(frozen=True)
class _Step:
    """One call of one layer's module in a forward pass."""

    unit: nn.Module
    top: int
    """The highest of the layers that it computes: ALBERT's groups may hold several."""


class _Reached(Exception):
    """The lower half is done; what its last layer gave. Never leaves this file."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class Halves:
    """The layers of a backbone, by which its forward pass can be left and entered.

    No model code is copied: a pass is left by an exception out of its last wanted layer, and
    entered by layers that hand out given hidden states in place of what they would compute. All
    else of the model (embeddings, masks, positions, the last norm) runs as it is, so a family
    whose layers hand on more than hidden states is computed wrongly: see `check_lower`.

    Attributes:
        model: the module that the layers belong to.
        layers: L, of the one stack whose text the backbone's hidden states are.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.model = backbone.model
        self.layers = 1 + max(site.layer for site in backbone.sites)
        self._names: dict[nn.Module, tuple[str, ...]] = {}
        self._steps: list[_Step] = []
        self._extra: int | None = None  # items of a layer's output after the hidden states
        self._find(backbone)

    def _find(self, backbone: Backbone) -> None:
        owners = _owners(self.model)
        tops: dict[tuple[nn.Module, int], int] = {}
        for site in backbone.sites:
            unit = owners.get(site.module)
            if unit is not None:
                tops[unit, site.call] = site.layer
                names = self._names.get(unit, ())
                self._names[unit] = names if site.module in names else (*names, site.module)
        self._steps = [_Step(unit, top) for (unit, _), top in tops.items()]

    def depth(self, backbone: Backbone, prompts: Prompts) -> int:
        """How many layers stand below the lowest prompt; L where there is no prompt at all."""
        if prompts.inputs is not None:
            return 0
        if not prompts.keys_values:
            return self.layers
        if backbone.decodes:
            return 0
        lowest = min(backbone.sites[at].layer for at in prompts.keys_values)
        return max((step.top + 1 for step in self._below(lowest)), default=0)

    def lower(self, backbone: Backbone, batch: TextBatch, prompts: Prompts, depth: int) -> Tensor:
        """What the first `depth` layers make of a batch [B, T, H], without a graph.

        With all layers it is what the whole backbone gives, [B, 1, H] out of a decoder.
        """
        with torch.no_grad():
            if depth == self.layers:
                return backbone(batch, prompts)  # type: ignore[no-any-return]
            steps = self._below(depth)
            unit = steps[-1].unit
            calls = sum(step.unit is unit for step in steps)

            def leaving(own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                output = own(*args, **kwargs)
                calls -= 1
                if calls == 0:
                    raise _Reached(output)
                return output

            try:
                with _instead(unit, leaving):
                    backbone(batch, prompts)
            except _Reached as reached:
                output = reached.output
        self._extra = None if isinstance(output, Tensor) else len(output) - 1
        hidden: Tensor = output if self._extra is None else output[0]
        return hidden

    def upper(
        self, backbone: Backbone, batch: TextBatch, prompts: Prompts, depth: int, states: Tensor
    ) -> Tensor:
        """The backbone's hidden states [B, T, H], from those of its first `depth` layers.

        `lower` must have run before: it sees what form a layer's output has.
        """
        output = states if self._extra is None else (states, *[None] * self._extra)
        left = Counter(step.unit for step in self._below(depth))
        slot = backbone.slot

        def handing(own: Callable[..., Any], unit: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if left[unit] == 0:  # ALBERT's one module is also the layers above
                return own(*args, **kwargs)
            left[unit] -= 1
            for name in self._names[unit]:
                slot.take(name)  # the calls that its attention would have made are counted
            return output

        with ExitStack() as stack:
            for unit in list(left):
                stack.enter_context(_instead(unit, _with_unit(handing, unit)))
            hidden: Tensor = backbone(batch, prompts)
        return hidden

    def _below(self, depth: int) -> list[_Step]:
        return [step for step in self._steps if step.top < depth]


def _with_unit(function: Callable[..., Any], unit: nn.Module) -> Callable[..., Any]:
    return lambda own, *args, **kwargs: function(own, unit, *args, **kwargs)


@contextmanager
def _instead(unit: nn.Module, function: Callable[..., Any]) -> Iterator[None]:
    """Call `function(forward, ...)` wherever the module's forward is called meanwhile."""
    own = unit.forward
    replaced = "forward" in vars(unit)
    unit.forward = lambda *args, **kwargs: function(own, *args, **kwargs)
    try:
        yield
    finally:
        if replaced:
            unit.forward = own
        else:
            del unit.forward


def _owners(model: nn.Module) -> dict[str, nn.Module]:
    """The name of every module within a layer -> that layer, an item of an outermost list."""
    found: dict[str, nn.Module] = {}
    for module in model.modules():  # outer modules come before those within them
        if isinstance(module, nn.ModuleList):
            for layer in module:
                for inner in layer.modules():
                    if hasattr(inner, "_ptv2_site"):
                        found.setdefault(site_of(inner)[1], layer)
    return found
