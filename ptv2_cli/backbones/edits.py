"""Let a method change the outputs of a backbone's modules but not the backbone itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.sites import Edit


class EditHooks:
    """Forward hooks that apply the edits of the current forward pass to module outputs.

    A hook stays on its module and does nothing in a pass without an edit for the module. The edits
    are kept after the forward pass, because gradient checkpointing calls modules again in the
    backward pass.

    Attributes:
        wrap: a function that is applied to every new hook; compiled layers need it.
    """

    def __init__(self) -> None:
        self.wrap: Callable[[Any], Any] = lambda hook: hook
        self._modules: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()
        self._hooked: set[str] = set()
        self._edits: Mapping[str, Edit] = {}

    def attach(self, model: nn.Module) -> None:
        """Register the modules of `model` by name, with weak references only."""
        self._modules.update(model.named_modules())

    def follow(self, model: nn.Module) -> None:
        """Register modules that wrap others and have their names (layers of PEFT)."""
        outermost: dict[str, nn.Module] = {}
        for module in model.modules():  # outer modules come before inner ones
            site = getattr(module, "_ptv2_site", None)
            if site is not None:
                outermost.setdefault(site[1], module)
        self._modules.update(outermost)

    def hold(self, edits: Mapping[str, Edit] | None) -> None:
        """Set the edits of the next forward pass.

        Raises:
            KeyError: the model has no module of that name.
        """
        self._edits = edits or {}
        for name in self._edits:
            if name not in self._hooked:
                hook = self.wrap(partial(self._apply, name))
                # Before other hooks: a family's adapter may put prompts before the output.
                self._modules[name].register_forward_hook(hook, prepend=True)
                self._hooked.add(name)

    def _apply(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        edit = self._edits.get(name)
        return output if edit is None else edit(args[0], output)


def chained(first: Mapping[str, Edit], then: Mapping[str, Edit]) -> dict[str, Edit]:
    """The edits of two methods; for a module that both change, `first` applies before `then`."""

    def both(one: Edit, other: Edit, inputs: Tensor, output: Tensor) -> Tensor:
        return other(inputs, one(inputs, output))

    shared = {name: partial(both, first[name], then[name]) for name in first if name in then}
    return {**first, **then, **shared}


def combined_edits(
    owned: Sequence[Mapping[str, Edit]], rows: Sequence[int]
) -> dict[str, Edit] | None:
    """The edits of a pass whose first rows[0] rows belong to owned[0], and so on.

    If only some owners change a module, the rows of the others stay as they are.
    """
    names = {name: None for edits in owned for name in edits}
    return {
        name: partial(_by_owner, [edits.get(name) for edits in owned], tuple(rows))
        for name in names
    } or None


def _by_owner(
    edits: Sequence[Edit | None], rows: Sequence[int], inputs: Tensor, output: Tensor
) -> Tensor:
    """Apply each owner's edit to the rows of the owner.

    Raises:
        ValueError: the output is not divided into the rows of the batch.
    """
    times, rest = divmod(output.shape[0], sum(rows))  # OPT joins the tokens of all rows
    if rest or not times:
        raise ValueError(f"an output {tuple(output.shape)} cannot be divided into rows {rows}")
    sizes = [times * count for count in rows]
    parts = zip(edits, torch.split(inputs, sizes), torch.split(output, sizes), strict=True)
    return torch.cat([given if edit is None else edit(read, given) for edit, read, given in parts])
