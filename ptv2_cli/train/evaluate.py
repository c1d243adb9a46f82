"""Run a learner over the features of a split, longest batches first, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from ptv2_cli.model import Learner
from ptv2_cli.tasks.base import PER_ROW, Array, Feature, Kind
from ptv2_cli.tasks.collate import collate
from ptv2_cli.train.loop import Precision, autocast


@dataclass(frozen=True)
class Predictor:
    """How features become outputs; the same for training's evaluations and `ptv2 eval`."""

    learner: Learner
    kind: Kind
    pad_id: int
    batch_size: int
    precision: Precision
    device: torch.device

    def __call__(
        self, features: Sequence[Feature], tick: Callable[[int], None] | None = None
    ) -> list[Mapping[str, Array]]:
        """Head outputs of each feature, padding removed, in the order given.

        `tick` is told the number of features of each batch done; it may raise to stop.
        """
        outputs: list[Mapping[str, Array]] = [{} for _ in features]
        self.learner.eval()
        with torch.inference_mode():
            for indices in _by_length(features, self.batch_size):
                chosen = [features[index] for index in indices]
                batch = collate(chosen, self.pad_id, self.kind).to(self.device)
                with autocast(self.precision, self.device):
                    predictions = self.learner(batch).predictions
                arrays = {name: value.float().cpu().numpy() for name, value in predictions.items()}
                for row, index in enumerate(indices):
                    outputs[index] = unpadded(arrays, row, chosen[row], self.kind)
                if tick is not None:
                    tick(len(indices))
        return outputs


def _by_length(features: Sequence[Feature], size: int) -> Iterator[list[int]]:
    """Indices of batches, each of one task."""
    order = sorted(
        range(len(features)),
        key=lambda index: (features[index].task, -len(features[index].input_ids)),
    )
    for _, group in groupby(order, key=lambda index: features[index].task):
        rows = list(group)
        for at in range(0, len(rows), size):
            yield rows[at : at + size]


def unpadded(
    arrays: Mapping[str, np.ndarray], row: int, feature: Feature, kind: Kind
) -> Mapping[str, Array]:
    """A feature's row of the batch: [C] or [] for an input, [choices] for a question, [T, ...]."""
    if kind in PER_ROW and feature.choices is None:
        return {name: array[row] for name, array in arrays.items()}
    length = len(feature.input_ids if feature.choices is None else feature.choices)
    # Copied, so that the batch's padding is not kept alive.
    return {name: array[row, :length].copy() for name, array in arrays.items()}
