"""Prompts of several owners in one forward pass: every row gets its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ptv2_cli.backbones.sites import KeysValues, Prompts


def mixed(prompts: Sequence[Prompts], rows: Sequence[int]) -> Prompts:
    """The prompts of a batch whose first rows[0] rows are prompts[0]'s, and so on.

    Each owner's are [1, K, P, D] at its own sites, of its own length. Together they are
    [B, K, P, D] with P the longest, and a mask [B, P] hides what is not a row's own: shorter
    prompts stand at the end, next to the text. Gradients flow back to each owner.

    Raises:
        ValueError: an owner's vectors stand among the inputs, which makes its rows longer.
    """
    if any(prompt.inputs is not None for prompt in prompts):
        raise ValueError("prompts among the inputs cannot share a batch with others")
    if len(prompts) == 1:
        return prompts[0]
    sites = sorted({at for prompt in prompts for at in prompt.keys_values or ()})
    found: dict[int, KeysValues] = {}
    masks: dict[int, Tensor] = {}
    # Sites with the same lengths share one mask, so that attention widens it once.
    by_lengths: dict[tuple[int, ...], Tensor] = {}
    for at in sites:
        owners = [(prompt.keys_values or {}).get(at) for prompt in prompts]
        found[at] = _joined(owners, rows)
        lengths = tuple(0 if owner is None else owner[0].shape[2] for owner in owners)
        if len(set(lengths)) > 1:
            device = found[at][0].device
            masks[at] = by_lengths.setdefault(lengths, _mask(lengths, rows, device))
    return Prompts(
        keys_values=found,
        mask=masks,
        offset=_offset([int(prompt.offset) for prompt in prompts], rows),
    )


def _joined(owners: Sequence[KeysValues | None], rows: Sequence[int]) -> KeysValues:
    """Keys and values [B, K, P, D] of one site."""
    first = next(owner for owner in owners if owner is not None)[0]
    longest = max(owner[0].shape[2] for owner in owners if owner is not None)
    parts = [
        torch.stack([_placed(part, longest, first) for part in owner or (None, None)])
        for owner in owners
    ]
    counts = torch.tensor(rows, device=first.device)
    keys, values = torch.cat(parts, dim=1).repeat_interleave(counts, dim=1)
    return keys, values


def _mask(lengths: Sequence[int], rows: Sequence[int], device: torch.device) -> Tensor:
    """Which of the P longest positions are each row's own [B, P]."""
    places = torch.arange(max(lengths), device=device)
    own = places >= max(lengths) - torch.tensor(lengths, device=device)[:, None]
    return own.repeat_interleave(torch.tensor(rows, device=device), dim=0)


def _placed(part: Tensor | None, length: int, like: Tensor) -> Tensor:
    """[1, K, P, D] with zeros before it up to `length`; zeros alone without a prompt."""
    if part is None:
        return like.new_zeros(1, like.shape[1], length, like.shape[3])
    return torch.nn.functional.pad(part, (0, 0, length - part.shape[2], 0))


def _offset(offsets: Sequence[int], rows: Sequence[int]) -> int | Tensor:
    """One offset if all are alike, else that of each row [B]."""
    if len(set(offsets)) == 1:
        return offsets[0]
    return torch.tensor(offsets).repeat_interleave(torch.tensor(rows))
