"""Prompts of several owners in one forward pass: every row gets its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ptv2_cli.backbones.sites import InputVectors, KeysValues, Prompts


def mixed(prompts: Sequence[Prompts], rows: Sequence[int]) -> Prompts:
    """The prompts of a batch whose first rows[0] rows are prompts[0]'s, and so on.

    Each owner's keys and values are [1, K, P, D] at its own sites, of its own length. Together
    they are [R, K, P, D] with R owners and P the longest at a site, and a mask [B, P] hides what
    is not a row's own: shorter prompts stand at the end, next to the text. Vectors among the
    inputs come one owner's after another's; the batch's slots count them so (see `laid_out`).
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
        rows=tuple(rows),
    )


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
