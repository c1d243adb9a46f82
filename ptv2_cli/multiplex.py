"""Several learners over one copy of the backbone: each has some rows of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ptv2_cli.backbones.backbone import text_states
from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.backbones.injection import combined
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.heads.base import Output
from ptv2_cli.inputs.batch import Batch, join_batches, with_prompt_slots
from ptv2_cli.learner import Learner, states


@dataclass
class Sharing:
    """How learners share forward passes."""

    rows: int | None = None
    """Most rows of a pass; a batch that has more goes by itself. None: no limit."""
    lower: LowerStates | None = None
    """Keeps the outputs of layers below the lowest prompt; None: they are computed each time."""

    def passes(self, learners: Sequence[Learner], sizes: Sequence[int]) -> Iterator[list[int]]:
        """Indices of the learners that share each pass; `sizes` are the rows B of each.

        As many as fit. Those with prompts in the same layers go together: layers below the lowest
        prompt of a pass need no graph.
        """
        waiting = sorted(range(len(learners)), key=lambda at: learners[at].method.lowest)
        while waiting:
            taken: list[int] = []
            total = 0
            for at in waiting:
                full = self.rows is not None and taken and total + sizes[at] > self.rows
                if not full and self._share([learners[other] for other in (*taken, at)]):
                    taken.append(at)
                    total += sizes[at]
            waiting = [at for at in waiting if at not in taken]
            yield taken

    def _share(self, learners: Sequence[Learner]) -> bool:
        # A pass enters stored outputs at one layer, and they save more than a wider pass.
        alike = self.lower is None or len({learner.method.lowest for learner in learners}) == 1
        return alike and can_share(learners)

    def forward(self, learners: Sequence[Learner], batches: Sequence[Batch]) -> list[Output]:
        """The output of each learner for its batch, from one forward pass over all batches.

        Raises:
            ValueError: they cannot share a pass, see `can_share`.
        """
        if len(learners) == 1:
            return [learners[0](batches[0], self.lower)]
        prompts = [learner.prompts() for learner in learners]
        inputs = [self._inputs(batch, own) for batch, own in zip(batches, prompts, strict=True)]
        vectors = [0 if own.inputs is None else len(own.inputs.vectors) for own in prompts]
        rows = [batch.input_ids.shape[0] for batch in inputs]
        merged = join_batches(inputs, vectors)
        hidden = states(learners[0].backbone, merged, combined(prompts, rows), self.lower)
        outputs = []
        parts = torch.split(hidden, rows)
        for learner, own, batch, wide, part in zip(
            learners, prompts, batches, inputs, parts, strict=True
        ):
            width = part.shape[1] if learner.backbone.decodes else wide.input_ids.shape[1]
            text = part if learner.backbone.decodes else text_states(part[:, :width], own.inputs)
            outputs.append(learner.head(text, batch))
        return outputs

    def _inputs(self, batch: Batch, prompts: Prompts) -> Batch:
        """The batch with slots for vectors that stand before one of its columns."""
        inputs = prompts.inputs
        if inputs is None or inputs.column is None:
            return batch
        return with_prompt_slots(batch, inputs.column, len(inputs.vectors))


def can_share(learners: Sequence[Learner]) -> bool:
    """Whether rows of all these learners can share a forward pass.

    A family that counts positions itself shifts all rows by the same offset, and attention does
    the same with the prompts of all rows.
    """
    if len(learners) == 1:
        return True
    if len({learner.backbone.decodes for learner in learners}) > 1:
        return False
    if len({learner.method.inside_attention for learner in learners}) > 1:
        return False
    offsets = {learner.method.offset for learner in learners}
    return learners[0].backbone.takes_offsets or len(offsets) == 1
