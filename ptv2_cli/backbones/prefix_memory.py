"""A prompt outside the softmax: elu(q) M, added to attention (arXiv 2506.13674)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def read_memory(query: Tensor, memories: Tensor, rows: Sequence[int] | None) -> Tensor:
    """elu(q) M for each query [B, T, N, D].

    In linear attention, a prompt adds sum_j phi(q) phi(k_j)^T v_j to the output for a query q. M
    takes the place of the sum of phi(k_j)^T v_j, so query heads that share keys and values share M.
    phi is elu here; other feature maps are possible. q is the query that attention receives: in
    models with rotary positions, after the rotation.

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
    """Features [B, N, T, D] times [R, K, D, D], if all owners have the same number of rows."""
    (rows, heads, length, size), (owners, groups) = features.shape, memories.shape[:2]
    parts = features.reshape(owners, rows // owners, groups, heads // groups, length, size)
    return torch.einsum("rckgtd,rkde->rctkge", parts, memories).flatten(3, 4).flatten(0, 1)
