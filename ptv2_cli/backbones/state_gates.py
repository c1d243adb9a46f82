"""Factors on a prompt's keys and values, computed from hidden states (arXiv 2305.15212)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.sites import StateGate


class GateStates:
    """Keeps the input of an attention module until its attention call, for the gates.

    Gates read the first token of a row. In an encoder it represents the row; in a causal model,
    tokens must not depend on later ones. The hook of a module always runs before its attention
    call, also when gradient checkpointing computes a layer again.
    """

    def __init__(self) -> None:
        self._hooked: set[str] = set()
        self._on = False
        self._first: Tensor | None = None
        self._decoding: Collection[int] = ()
        self._kept: dict[int, Tensor] | None = None
        self._hidden: Tensor | None = None

    def turn_off(self) -> None:
        """Keep no inputs in the next passes."""
        self._on, self._hidden, self._kept = False, None, None

    def turn_on(
        self,
        model: nn.Module,
        names: Collection[str],
        first: Tensor,
        decoding: Collection[int],
        *,
        writes: bool,
    ) -> None:
        """Keep the inputs of these modules in the next passes.

        Args:
            model: the model of the backbone.
            names: dotted names of the attention modules with gates.
            first: column of each row's first token [B].
            decoding: sites whose queries come from a decoder; its first token is in column 0.
            writes: whether the passes write texts token by token. Then all of them use the
                factors of the first pass, the only one that reads the first token.
        """
        if not self._hooked.issuperset(names):
            for module in model.modules():
                site = getattr(module, "_ptv2_site", None)  # parts of layers of PEFT have none
                if site is not None and site[1] in names and site[1] not in self._hooked:
                    module.register_forward_pre_hook(self._note, with_kwargs=True)
            self._hooked |= set(names)
        self._on, self._first, self._decoding = True, first, decoding
        self._kept = {} if writes else None

    def factors(self, site: int, gate: StateGate, rows: Sequence[int] | None) -> Tensor:
        """The factor of each prompt position for each row [B, P], fp32.

        Args:
            site: the site's number.
            gate: the gate of the site's prompts.
            rows: how many rows each of R owners has; None: R is 1 or B.
        """
        if self._kept is not None and site in self._kept:
            return self._kept[site]
        hidden, self._hidden = self._hidden, None
        assert hidden is not None
        assert self._first is not None
        if site in self._decoding:
            states = hidden[:, 0]
        else:  # beams are copies of a row
            first = self._first.repeat_interleave(len(hidden) // len(self._first))
            states = hidden[torch.arange(len(hidden), device=hidden.device), first]
        with torch.autocast(hidden.device.type, enabled=False):
            found = gate_factors(gate, states.float(), rows)
        if self._kept is not None:
            self._kept[site] = found
        return found

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._on:
            self._hidden = args[0] if args else kwargs["hidden_states"]


def gate_factors(gate: StateGate, states: Tensor, rows: Sequence[int] | None) -> Tensor:
    """scale * sigmoid(h W / sqrt(H)) for states h of B rows [B, H]: [B, P].

    The paper has sigmoid(h W). Both forms express the same functions; with 1 / sqrt(H), one
    training step changes the gates equally in wide and in narrow models.
    """
    count, size = states.shape
    if rows is None:
        rows = (count,) if len(gate.weight) == 1 else (1,) * count
    owned = zip(torch.split(states, list(rows)), gate.weight, gate.scale, strict=True)
    return torch.cat(
        [scale * torch.sigmoid(own @ weight / math.sqrt(size)) for own, weight, scale in owned]
    )


def stacked_gates(
    owned: Sequence[Mapping[int, StateGate] | None],
) -> dict[int, StateGate] | None:
    """Stack the owners' gates [1, H, P] to [R, H, P]; shorter prompts are padded in front."""
    sites = {site for gates in owned for site in gates or ()}
    return {site: _stacked([(gates or {}).get(site) for gates in owned]) for site in sites} or None


def _stacked(gates: Sequence[StateGate | None]) -> StateGate:
    known = [gate for gate in gates if gate is not None]
    longest = max(gate.weight.shape[2] for gate in known)
    like = known[0]
    none = like.weight.new_zeros(1, like.weight.shape[1], longest)
    pad = torch.nn.functional.pad
    return StateGate(
        torch.cat(
            [
                none if gate is None else pad(gate.weight, (longest - gate.weight.shape[2], 0))
                for gate in gates
            ]
        ),
        torch.cat([torch.zeros_like(like.scale) if gate is None else gate.scale for gate in gates]),
    )
