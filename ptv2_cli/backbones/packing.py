"""Packing: short rows one after another in one sequence, which leaves less padding.

A row attends only to itself and to the prompt, and its positions start again at the first one, so
its hidden states are the same as without packing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]
LEAST_GAIN = 0.03
"""Share of the operations that packing must save."""
ATTENTION = 2.0
"""Time of an operation in attention, as a multiple of one in a linear layer, on a CPU."""


@dataclass(frozen=True)
class Packing:
    """The places of the B rows of a batch in S sequences of W tokens."""

    sequences: Ints
    """The sequence of each row [B]."""
    starts: Ints
    """The first column of each row in its sequence [B]."""
    lengths: Ints
    """The number of tokens of each row [B]."""
    width: int
    """Tokens of a sequence, W."""

    @property
    def count(self) -> int:
        """Number of sequences, S."""
        return int(self.sequences.max()) + 1

    def inputs(self, ids: Tensor, offset: int) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids and position ids [S, W] and the mask [S, 1, W, W] of rows [B, T]."""
        at = self._places(ids.shape[1], ids.device)
        flat = ids.new_zeros(self.count * self.width + 1)
        flat[at] = ids
        owners = np.full((self.count, self.width), -1)
        positions = np.zeros((self.count, self.width), np.int64)
        for row, (sequence, start, length) in enumerate(
            zip(self.sequences, self.starts, self.lengths, strict=True)
        ):
            owners[sequence, start : start + length] = row
            positions[sequence, start : start + length] = np.arange(length)
        same = owners[:, :, None] == owners[:, None, :]  # padding sees padding: no empty softmax
        mask = torch.from_numpy(same & np.tri(self.width, dtype=np.bool_))[:, None]
        return (
            flat[:-1].view(self.count, self.width),
            torch.from_numpy(positions).to(ids.device, non_blocking=True) + offset,
            mask.to(ids.device, non_blocking=True),
        )

    def rows(self, hidden: Tensor, width: int) -> Tensor:
        """Unpack hidden states [S, W, H] to rows [B, T, H]; padding is 0."""
        flat = torch.nn.functional.pad(hidden.flatten(0, 1), (0, 0, 0, 1))
        return flat[self._places(width, hidden.device)]

    def _places(self, width: int, device: torch.device) -> Tensor:
        """The index of each token in the flattened sequences [B, T]; padding has their length."""
        columns = np.arange(width)
        first = self.sequences * self.width + self.starts
        places = np.where(
            columns < self.lengths[:, None], first[:, None] + columns, self.count * self.width
        )
        return torch.from_numpy(places).to(device, non_blocking=True)


def pack(lengths: Sequence[int], prompt_len: int, linear: float, hidden: int) -> Packing | None:
    """The packing with the lowest cost; None: it saves too little.

    Args:
        lengths: tokens of each row [B].
        prompt_len: P.
        linear: operations of a layer's linear modules for one token.
        hidden: H.
    """
    sizes = np.asarray(lengths, np.int64)
    rows, longest = len(sizes), int(sizes.max())

    tokens = int(sizes.sum())

    def cost(count: int, width: int) -> float:
        return count * (linear + ATTENTION * 4 * (width + prompt_len) * hidden)

    best, least = None, cost(rows * longest, longest) * (1 - LEAST_GAIN)
    for sequences in dict.fromkeys(-(-rows // each) for each in range(2, rows + 1)):
        if cost(tokens, max(longest, -(-tokens // sequences))) >= least:
            break  # even without padding; fewer sequences are longer still
        packing = _spread(sizes, sequences)
        found = cost(packing.count * packing.width, packing.width)
        if found < least:
            best, least = packing, found
    return best


def _spread(sizes: Ints, sequences: int) -> Packing:
    """Distribute rows, the longest first, each to the sequence that is shortest so far."""
    filled = np.zeros(sequences, np.int64)
    chosen, starts = np.empty_like(sizes), np.empty_like(sizes)
    for row in np.argsort(-sizes, kind="stable"):
        sequence = int(filled.argmin())
        chosen[row], starts[row] = sequence, filled[sequence]
        filled[sequence] += sizes[row]
    return Packing(chosen, starts, sizes, int(filled.max()))
