"""Several learners over one copy of the backbone, answering parts of one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ptv2_cli.backbones.mixing import mixed
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.heads.base import Output
from ptv2_cli.model import Learner
from ptv2_cli.tasks.collate import Batch
from ptv2_cli.tasks.joined import joined


def can_share(learners: Sequence[Learner]) -> bool:
    """Whether rows of all these learners fit into one forward pass.

    Vectors among the inputs make rows longer, and a family that counts its positions inside
    shifts all rows alike.
    """
    if len(learners) == 1:
        return True
    if len({learner.backbone.decodes for learner in learners}) > 1:
        return False
    if any(learner.method.in_input for learner in learners):
        return False
    offsets = {learner.method.offset for learner in learners}
    return learners[0].backbone.takes_offsets or len(offsets) == 1


def answer(learners: Sequence[Learner], batches: Sequence[Batch], pad_id: int) -> list[Output]:
    """What each learner makes of its own batch, out of one forward pass over all of them.

    Raises:
        ValueError: they cannot share a pass, see `can_share`.
    """
    if len(learners) == 1:
        return [learners[0](batches[0])]
    together = joined(batches, pad_id)
    rows = [batch.input_ids.shape[0] for batch in batches]
    prompts = mixed([_prompts(learner, together) for learner in learners], rows)
    hidden = learners[0].backbone(together, prompts)
    outputs = []
    for learner, batch, own in zip(learners, batches, hidden.split(rows), strict=True):
        width = own.shape[1] if learner.backbone.decodes else batch.input_ids.shape[1]
        outputs.append(learner.head(own[:, :width], batch))
    return outputs


def _prompts(learner: Learner, batch: Batch) -> Prompts:
    # As in Learner.forward: prompts are made in fp32, attention casts them.
    with torch.autocast(batch.input_ids.device.type, enabled=False):
        prompts: Prompts = learner.method()
    return prompts
