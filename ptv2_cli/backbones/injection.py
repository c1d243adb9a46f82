"""Where attention finds the prompts of the forward pass under way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.sites import InputVectors, KeysValues, Prompts


@dataclass(frozen=True)
class Call:
    """One attention call as it was seen."""

    module: str
    key: Tensor
    """The text's own keys, as attention compares them [B, K, T', D]."""
    value: Tensor
    """[B, K, T', D]"""
    queries: int
    causal: bool


class Slot:
    """Where attention finds the prompts of the forward pass under way.

    Modules are told apart by name and by the number of the call, because one module may serve
    several layers (ALBERT) and `layer_idx` repeats over encoder, decoder and cross attention
    (T5). The prompts stay after the forward pass: gradient checkpointing calls attention again
    during backward, each module's calls in reverse order.

    Attributes:
        index: (module, call) -> the site's number.
        offset: positions by which a stack's text is shifted, for families that take no position
            ids (see `adapters`).
    """

    def __init__(self) -> None:
        self.index: dict[tuple[str, int], int] = {}
        self.offset: dict[str, int] = {}
        self._noted: list[Call] | None = None
        self._prompts: Prompts | None = None
        self._calls: dict[str, int] = {}
        self._recomputed: dict[str, int] = {}
        self._in_forward = False
        self._visible: Tensor | None = None
        self._gate: Tensor | None = None
        self._masks: dict[tuple[int, ...], tuple[Tensor | None, ...]] = {}

    def attach(self, model: nn.Module) -> None:
        """Let every module of `model` find this slot and its own name."""
        for name, module in model.named_modules():
            module._ptv2_site = (self, name)

    @contextmanager
    def forward(self, prompts: Prompts | None) -> Iterator[None]:
        """Hold `prompts` for one forward pass and for the recomputation that may follow it."""
        self._prompts = prompts
        self._calls, self._recomputed, self._masks = {}, {}, {}
        self._in_forward = True
        try:
            yield
        finally:
            self._in_forward = False

    @contextmanager
    def noting(self) -> Iterator[list[Call]]:
        """Collect the attention calls made meanwhile, in order."""
        calls: list[Call] = []
        self._noted = calls
        try:
            yield calls
        finally:
            self._noted = None

    def note(self, name: str, key: Tensor, value: Tensor, queries: int, causal: bool) -> None:
        """Tell of a call of module `name`, before any prompt stands in its keys."""
        if self._noted is not None:
            self._noted.append(Call(name, key.detach(), value.detach(), queries, causal))

    def take(self, name: str) -> KeysValues | None:
        """The prompts of module `name` at its present call; counts the call.

        What `widen` gives next is for them.
        """
        call = self._count(name)
        if self._prompts is None or self._prompts.keys_values is None:
            return None
        site = self.index.get((name, call))
        if site is None:
            return None
        mask = self._prompts.mask
        self._visible = mask.get(site) if isinstance(mask, Mapping) else mask
        self._gate = (self._prompts.gates or {}).get(site)
        return self._prompts.keys_values.get(site)

    def gate(self, rows: int) -> Tensor | None:
        """The factor of each head for the prompts taken last [B, N]; None: one softmax for all."""
        return None if self._gate is None else self.spread(self._gate, rows)

    def visible(self, rows: int) -> Tensor | None:
        """Which positions of the prompts taken last each row sees [B, P]; None: all."""
        if self._visible is None:
            return None
        # A row that sees nothing has no prompt here and a gate of 0; a softmax needs a position.
        return (self._visible | ~self._visible.any(1, keepdim=True)).expand(rows, -1)

    def widen(
        self, mask: Tensor | None, length: int, queries: int, keys: Tensor, causal: bool
    ) -> Tensor | None:
        """The attention mask with `length` prompt columns before its own, [B|1, 1, T, P + T'].

        Prompt columns are visible to every query, sliding windows or not, unless the prompts'
        own mask hides them. Layers share masks, so each is widened once per forward pass.

        Args:
            mask: 1 for visible, or additive, [B|1, 1, T|1, T'], or None.
            length: P.
            queries: T.
            keys: the text's own keys [B, K, T', D].
            causal: whether None means a causal mask.
        """
        visible = self._visible
        mark = (id(mask), id(visible), length, queries, keys.shape[2], int(causal))
        cached = self._masks.get(mark)
        if cached is None:
            # The originals are kept beside the result, or their ids could go to other tensors.
            wide = self._widen(mask, visible, length, queries, keys, causal)
            cached = (mask, visible, wide)
            self._masks[mark] = cached
        return cached[2]

    def spread(self, part: Tensor, rows: int) -> Tensor:
        """Keys or values of each owner [R, ...] as those of each row [B, ...]."""
        counts = None if self._prompts is None else self._prompts.rows
        if counts is None:
            return part.expand(rows, *part.shape[1:])
        if len(set(counts)) == 1:  # one copy; its gradient is one sum
            alike = part[:, None].expand(-1, counts[0], *part.shape[1:])
            return alike.reshape(rows, *part.shape[1:])
        owners = zip(torch.split(part, 1), counts, strict=True)
        return torch.cat([own.expand(count, *own.shape[1:]) for own, count in owners])

    def _widen(
        self,
        mask: Tensor | None,
        visible: Tensor | None,
        length: int,
        queries: int,
        keys: Tensor,
        causal: bool,
    ) -> Tensor | None:
        if mask is None and not (causal and queries > 1) and visible is None:
            return None
        if mask is None:
            mask = torch.ones(1, 1, queries, keys.shape[2], dtype=torch.bool, device=keys.device)
            mask = mask.tril() if causal else mask
        if not mask.is_floating_point():
            mask = mask.bool()
        if visible is None:
            columns = mask.new_ones(1, 1, 1, length, dtype=torch.bool)
        else:
            columns = visible[:, None, None, :]
        if mask.dtype != torch.bool:
            columns = torch.zeros_like(columns, dtype=mask.dtype).masked_fill(
                ~columns, torch.finfo(mask.dtype).min
            )
        rows = max(mask.shape[0], columns.shape[0])
        return torch.cat(
            [
                columns.expand(rows, mask.shape[1], mask.shape[2], length),
                mask.expand(rows, -1, -1, -1),
            ],
            dim=-1,
        )

    def _count(self, name: str) -> int:
        calls = self._calls.get(name, 0)
        if self._in_forward:
            self._calls[name] = calls + 1
            return calls
        again = self._recomputed.get(name, 0)
        self._recomputed[name] = again + 1
        return calls - 1 - again


def site_of(module: nn.Module) -> tuple[Slot, str]:
    """The slot and the dotted name that `Slot.attach` left on a module."""
    found: tuple[Slot, str] = module._ptv2_site  # type: ignore[assignment]
    return found


def mixed(prompts: Sequence[Prompts], rows: Sequence[int]) -> Prompts:
    """The prompts of a batch whose first rows[0] rows are prompts[0]'s, and so on.

    Each owner's keys and values are [1, K, P, D] at its own sites, of its own length. Together
    they are [R, K, P, D] with R owners and P the longest at a site, and a mask [B, P] hides what
    is not a row's own: shorter prompts stand at the end, next to the text. Vectors among the
    inputs come one owner's after another's; the batch's slots count them so (see `laid_out`).
    Either all owners have gates or none has.
    Gradients flow back to each owner.
    """
    if len(prompts) == 1:
        return prompts[0]
    found: dict[int, KeysValues] = {}
    masks: dict[int, Tensor] = {}
    for (lengths, *_), sites in _alike(prompts).items():
        # All sites of one kind at once: each site by itself would be many small operations.
        block = torch.stack(_blocks(prompts, sites, max(lengths)))
        parts = block.unbind(1)
        for place, at in enumerate(sites):
            found[at] = (parts[2 * place], parts[2 * place + 1])
        if len(set(lengths)) > 1:
            # Sites with the same lengths share one mask, so that attention widens it once.
            mask = _mask(lengths, tuple(rows), block.device)
            masks.update(dict.fromkeys(sites, mask))
    vectors = [prompt.inputs.vectors for prompt in prompts if prompt.inputs is not None]
    return Prompts(
        keys_values=dict(sorted(found.items())),
        mask=masks,
        offset=_offset(tuple(int(prompt.offset) for prompt in prompts), tuple(rows)),
        inputs=InputVectors(torch.cat(vectors), None) if vectors else None,
        gates=_gates(prompts),
        rows=tuple(rows),
    )


def _gates(prompts: Sequence[Prompts]) -> dict[int, Tensor] | None:
    """Each owner's factors [R, N] by site, 0 where it has no prompt."""
    owned = [prompt.gates or {} for prompt in prompts]
    first = {site: gate for gates in owned for site, gate in gates.items()}
    return {
        site: torch.cat([gates.get(site, torch.zeros_like(gate)) for gates in owned])
        for site, gate in first.items()
    } or None


def _alike(prompts: Sequence[Prompts]) -> dict[tuple[tuple[int, ...], int, int], list[int]]:
    """Sites by each owner's prompt length there, 0 without one, and by K and D."""
    found: dict[tuple[tuple[int, ...], int, int], list[int]] = {}
    for at in sorted({at for prompt in prompts for at in prompt.keys_values or ()}):
        owners = [(prompt.keys_values or {}).get(at) for prompt in prompts]
        lengths = tuple(0 if owner is None else owner[0].shape[2] for owner in owners)
        shape = next(owner for owner in owners if owner is not None)[0].shape
        found.setdefault((lengths, shape[1], shape[3]), []).append(at)
    return found


def _blocks(prompts: Sequence[Prompts], sites: Sequence[int], longest: int) -> list[Tensor]:
    """Each owner's keys and values of some sites [2 * S, K, P, D], zeros where it has none.

    An owner has prompts at all of these sites or at none.
    """
    owned = [prompt.keys_values or {} for prompt in prompts]
    stacked = [
        torch.stack([part[0] for at in sites for part in own[at]]) if sites[0] in own else None
        for own in owned
    ]
    like = next(part for part in stacked if part is not None)
    none = like.new_zeros(*like.shape[:2], longest, like.shape[3])
    pad = torch.nn.functional.pad
    return [
        none if part is None else pad(part, (0, 0, longest - part.shape[2], 0)) for part in stacked
    ]


@lru_cache(maxsize=256)
def _mask(lengths: tuple[int, ...], rows: tuple[int, ...], device: torch.device) -> Tensor:
    """Which of the P longest positions are each row's own [B, P]."""
    # Made once for predictions and for training, which cannot use what inference mode makes.
    with torch.inference_mode(False):
        own = torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]
        return own.repeat_interleave(torch.tensor(rows), dim=0).to(device)


@lru_cache(maxsize=256)
def _offset(offsets: tuple[int, ...], rows: tuple[int, ...]) -> int | Tensor:
    """One offset if all are alike, else that of each row [B]."""
    if len(set(offsets)) == 1:
        return offsets[0]
    with torch.inference_mode(False):
        return torch.tensor(offsets).repeat_interleave(torch.tensor(rows))
