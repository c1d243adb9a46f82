"""A prompt outside the softmax: phi(q) M beside what attention gives (arXiv 2506.13674)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def read_memory(query: Tensor, memories: Tensor, rows: Sequence[int] | None) -> Tensor:
    """elu(q) M for each query [B, T, N, D].

    A prompt in linear attention gives a query sum_j phi(q) phi(k_j)^T v_j; M stands for the sum of
    the phi(k_j)^T v_j, so query heads that share keys and values share it too. phi is elu, as in
    the paper's experiments. q is what attention gets: rotated, where the model rotates.

    Args:
        query: [B, N, T, D].
        memories: M of each owner [R, K, D, D], where R is 1, B or the length of `rows`.
        rows: how many rows, one after another, each owner has; None: R is 1 or B.
    """
    features = torch.nn.functional.elu(query)
    memories = memories.to(query.dtype)
    if rows is None or len(set(rows)) == 1:
        return _of_owners(features, memories)
    owners = zip(torch.split(features, list(rows)), torch.split(memories, 1), strict=True)
    return torch.cat([_of_owners(own, memory) for own, memory in owners])


def _of_owners(features: Tensor, memories: Tensor) -> Tensor:
    """Features [B, N, T, D] times [R, K, D, D], where all owners have equally many rows."""
    (rows, heads, length, size), (owners, groups) = features.shape, memories.shape[:2]
    parts = features.reshape(owners, rows // owners, groups, heads // groups, length, size)
    return torch.einsum("rckgtd,rkde->rctkge", parts, memories).flatten(3, 4).flatten(0, 1)
