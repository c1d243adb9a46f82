"""Hand the prompts of a forward pass to the attention modules of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ptv2_cli.backbones.dropout import PassDropout
from ptv2_cli.backbones.edits import EditHooks, combined_edits
from ptv2_cli.backbones.sites import InputVectors, KeysValues, Prompts
from ptv2_cli.backbones.state_gates import GateStates, stacked_gates


@dataclass(frozen=True)
class Call:
    """One recorded attention call."""

    module: str
    key: Tensor
    """The keys of the text [B, K, T', D], after rotation."""
    value: Tensor
    """[B, K, T', D]"""
    queries: int
    causal: bool


Watcher = Callable[[int, Callable[[Tensor], Tensor], Tensor], None]
"""Gets the number of a site; what its softmax makes of other values [B, K, P + T', W]: their
weighted sums [B, T, N, W]; and the keys [B, K, P + T', D], the prompt's first."""


class Injection:
    """Holds the prompts of the current forward pass for the attention modules.

    The name of the module and the number of the call identify a site, because one module may
    serve several layers (ALBERT) and `layer_idx` repeats over encoder, decoder and cross
    attention (T5). The prompts stay here after the forward pass: gradient checkpointing calls
    attention again during backward, and each module's calls then come in reverse order.

    Attributes:
        index: (module, call) -> the site's number.
        offset: stack -> positions by which its text is shifted, for families that take no
            position ids (see `adapters`).
        dropout: the dropout of the forward pass.
        attended: attention calls of the present forward pass so far.
        edits: change the outputs of modules as the prompts say.
        states: what gates that read hidden states need.
        site: the number of the site whose prompts were taken last; None: it is no site.
        watcher: called in every attention call of a registered family, in eval mode; None: nobody
            watches.
    """

    def __init__(self) -> None:
        self.index: dict[tuple[str, int], int] = {}
        self.offset: dict[str, int] = {}
        self.dropout = PassDropout()
        self.edits = EditHooks()
        self.attended = 0
        self.states = GateStates()
        self.site: int | None = None
        self.watcher: Watcher | None = None
        self._recorded: list[Call] | None = None
        self._prompts: Prompts | None = None
        self._calls: dict[str, int] = {}
        self._recomputed: dict[str, int] = {}
        self._in_forward = False
        self._visible: Tensor | None = None
        self._gate: Tensor | None = None
        self._memory: Tensor | None = None
        self._masks: dict[tuple[Any, ...], tuple[Tensor | None, ...]] = {}

    def __deepcopy__(self, memo: Any) -> Injection:
        """Itself: every module refers to it, also the copy of one."""
        return self

    def attach(self, model: nn.Module) -> None:
        """Give every module of `model` its name and this object."""
        for name, module in model.named_modules():
            module._ptv2_site = (self, name)
        self.edits.attach(model)

    @contextmanager
    def forward(self, prompts: Prompts | None) -> Iterator[None]:
        """Hold `prompts` for one forward pass and for the recomputation that may follow it."""
        self._prompts = prompts
        self.edits.hold(None if prompts is None else prompts.edits)
        self.next_pass()
        self._in_forward = True
        try:
            yield
        finally:
            self._in_forward = False

    def next_pass(self) -> None:
        """Begin another forward pass with the same prompts, as for each token that is written."""
        self._calls, self._recomputed, self._masks = {}, {}, {}
        self.attended = 0

    @contextmanager
    def recording(self) -> Iterator[list[Call]]:
        """Collect the attention calls in the `with` block, in order."""
        calls: list[Call] = []
        self._recorded = calls
        try:
            yield calls
        finally:
            self._recorded = None

    def record(self, name: str, key: Tensor, value: Tensor, queries: int, causal: bool) -> None:
        """Record a call of module `name` with the keys and values of the text alone."""
        self.attended += 1
        if self._recorded is not None:
            self._recorded.append(Call(name, key.detach(), value.detach(), queries, causal))

    def take(self, name: str) -> KeysValues | None:
        """Count a call of module `name` and return its prompts.

        `widen`, `gate`, `visible`, `factors` and `memory` then refer to these prompts.
        """
        call = self._count(name)
        self.dropout.prompts = None
        site = self.site = self.index.get((name, call))
        self._memory = None
        if self._prompts is not None and site is not None:
            self._memory = (self._prompts.memories or {}).get(site)
        if self._prompts is None or self._prompts.keys_values is None or site is None:
            return None
        mask = self._prompts.mask
        self._visible = mask.get(site) if isinstance(mask, Mapping) else mask
        self._gate = (self._prompts.gates or {}).get(site)
        self.dropout.prompts = (self._prompts.lengths or {}).get(site)
        return self._prompts.keys_values.get(site)

    def gate(self, rows: int) -> Tensor | None:
        """The factor of each head for the last taken prompts [B, K]; None: one softmax for all."""
        return None if self._gate is None else self.per_row(self._gate, rows)

    def factors(self) -> Tensor | None:
        """Of keys and values of the last taken prompts [B, P]; None: 1."""
        prompts, site = self._prompts, self.site
        if prompts is None or site is None:
            return None
        gate = (prompts.state_gates or {}).get(site)
        return None if gate is None else self.states.factors(site, gate, prompts.rows)

    def memory(self) -> tuple[Tensor, tuple[int, ...] | None] | None:
        """The last taken prompts' matrices and the rows of each owner; None: there are none."""
        if self._memory is None or self._prompts is None:
            return None
        return self._memory, self._prompts.rows

    def visible(self, rows: int) -> Tensor | None:
        """Which positions of the last taken prompts each row sees [B, P]; None: all."""
        if self._visible is None:
            return None
        # A row that sees nothing has no prompt here and a gate of 0; a softmax needs a position.
        return (self._visible | ~self._visible.any(1, keepdim=True)).expand(rows, -1)

    def widen(
        self, mask: Tensor | None, length: int, queries: int, keys: Tensor, causal: bool
    ) -> Tensor | None:
        """Put `length` prompt columns before the attention mask: [B|1, 1, T, P + T'].

        Every query sees the prompt columns, also with sliding windows, unless the mask of the
        prompts hides them. Layers share masks, so each mask is widened once per forward pass.

        Args:
            mask: 1 for visible, or additive, [B|1, 1, T|1, T'], or None.
            length: P.
            queries: T.
            keys: the keys of the text [B, K, T', D].
            causal: whether None stands for a causal mask.
        """
        visible = self._visible if length else None
        mark = (id(mask), id(visible), length, queries, keys.shape[2], int(causal))
        cached = self._masks.get(mark)
        if cached is None:
            # Keep the originals too: otherwise new tensors could reuse their ids.
            wide = self._widen(mask, visible, length, queries, keys, causal)
            cached = (mask, visible, wide)
            self._masks[mark] = cached
        return cached[2]

    def additive(self, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """What a mask adds to the scores, made once per forward pass; None: nothing is hidden."""
        if mask is None:
            return None
        mark = (id(mask), dtype)
        cached = self._masks.get(mark)
        if cached is None:
            cached = (mask, _additive(mask, dtype))
            self._masks[mark] = cached
        return cached[1]

    def per_row(self, part: Tensor, rows: int) -> Tensor:
        """Repeat what each owner has [R, ...] for each of its rows [B, ...]."""
        counts = None if self._prompts is None else self._prompts.rows
        if counts is None:
            return part.expand(rows, *part.shape[1:])
        if len(set(counts)) == 1:  # one copy, whose gradient is one sum
            repeated = part[:, None].expand(-1, counts[0], *part.shape[1:])
            return repeated.reshape(rows, *part.shape[1:])
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
        recomputed = self._recomputed.get(name, 0)
        self._recomputed[name] = recomputed + 1
        return calls - 1 - recomputed


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """0 where a mask is 1, the type's lowest value where it is 0; others are additive already."""
    if mask.is_floating_point():
        return mask.to(dtype)
    mask = mask.bool()
    if bool(mask.all()):
        return None
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def injection_of(module: nn.Module) -> tuple[Injection, str]:
    """What `Injection.attach` left on a module: the injection and the module's dotted name."""
    attached: tuple[Injection, str] = module._ptv2_site  # type: ignore[assignment]
    return attached


def combined(prompts: Sequence[Prompts], rows: Sequence[int]) -> Prompts:
    """The prompts of a batch whose first rows[0] rows belong to prompts[0], and so on.

    Each owner has keys and values [1, K, P, D] at its own sites, of its own length. The result
    has [R, K, P, D] for R owners, where P is the longest at a site, and a mask [B, P] that hides
    the padding: shorter prompts are at the end, next to the text. Vectors among the inputs follow
    each other owner by owner, and the batch's slots count them so (`with_prompt_slots`).
    Either all owners have gates or none has. Gradients flow back to each owner.
    """
    if len(prompts) == 1:
        return prompts[0]
    keys_values: dict[int, KeysValues] = {}
    masks: dict[int, Tensor] = {}
    own_lengths: dict[int, tuple[int, ...]] = {}
    for (lengths, *_), sites in _sites_by_shape(prompts).items():
        # All sites of one shape at once: one site at a time would be many small operations.
        block = torch.stack(_blocks(prompts, sites, max(lengths)))
        parts = block.unbind(1)
        for number, site in enumerate(sites):
            keys_values[site] = (parts[2 * number], parts[2 * number + 1])
        if len(set(lengths)) > 1:
            # Sites with the same lengths share one mask, so that attention widens it once.
            mask = _mask(lengths, tuple(rows), block.device)
            masks.update(dict.fromkeys(sites, mask))
            own_lengths.update(dict.fromkeys(sites, lengths))
    vectors = [prompt.inputs.vectors for prompt in prompts if prompt.inputs is not None]
    return Prompts(
        keys_values=dict(sorted(keys_values.items())),
        mask=masks,
        offset=_offset(tuple(int(prompt.offset) for prompt in prompts), tuple(rows)),
        inputs=InputVectors(torch.cat(vectors), None) if vectors else None,
        gates=_stacked([prompt.gates for prompt in prompts]),
        state_gates=stacked_gates([prompt.state_gates for prompt in prompts]),
        memories=_stacked([prompt.memories for prompt in prompts]),
        lengths=own_lengths,
        rows=tuple(rows),
        edits=combined_edits([prompt.edits or {} for prompt in prompts], rows),
    )


def _stacked(owned: Sequence[Mapping[int, Tensor] | None]) -> dict[int, Tensor] | None:
    """What each owner has by site [1, ...] as [R, ...], 0 where it has nothing."""
    first = {site: like for by_site in owned for site, like in (by_site or {}).items()}
    return {
        site: torch.cat([(by_site or {}).get(site, torch.zeros_like(like)) for by_site in owned])
        for site, like in first.items()
    } or None


def _sites_by_shape(
    prompts: Sequence[Prompts],
) -> dict[tuple[tuple[int, ...], int, int], list[int]]:
    """Sites by each owner's prompt length there (0 without a prompt), K and D."""
    grouped: dict[tuple[tuple[int, ...], int, int], list[int]] = {}
    for site in sorted({site for prompt in prompts for site in prompt.keys_values or ()}):
        owners = [(prompt.keys_values or {}).get(site) for prompt in prompts]
        lengths = tuple(0 if owner is None else owner[0].shape[2] for owner in owners)
        shape = next(owner for owner in owners if owner is not None)[0].shape
        grouped.setdefault((lengths, shape[1], shape[3]), []).append(site)
    return grouped


def _blocks(prompts: Sequence[Prompts], sites: Sequence[int], longest: int) -> list[Tensor]:
    """Each owner's keys and values at some sites [2 * S, K, P, D], zeros if it has none.

    An owner has prompts at all of these sites or at none.
    """
    owned = [prompt.keys_values or {} for prompt in prompts]
    stacked = [
        torch.stack([part[0] for site in sites for part in own[site]]) if sites[0] in own else None
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
    """Which of the P positions belong to each row's prompt [B, P]."""
    # The cache serves training too, which cannot use tensors made in inference mode.
    with torch.inference_mode(False):
        own = torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]
        visible = own.repeat_interleave(torch.tensor(rows), dim=0)
        return visible.to(device, non_blocking=True)


@lru_cache(maxsize=256)
def _offset(offsets: tuple[int, ...], rows: tuple[int, ...]) -> int | Tensor:
    """One offset if all are equal, else one for each row [B]."""
    if len(set(offsets)) == 1:
        return offsets[0]
    with torch.inference_mode(False):
        return torch.tensor(offsets).repeat_interleave(torch.tensor(rows))
