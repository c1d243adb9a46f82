"""The head that answers with a word of the backbone's own language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptv2_cli.heads.base import Head, HeadContext, LabelledBatch, Output, cross_entropy


class VerbalizerHead(Head):
    """Cross entropy over the logits of C words at {mask}, from the backbone's own LM head.

    The softmax is over the words alone (Schick and Schütze 2021, arXiv 2001.07676, section 3.1).
    The head is frozen; where it trains, a copy of it does.
    """

    def __init__(self, context: HeadContext) -> None:
        nn.Module.__init__(self)
        if context.language is None:
            raise ValueError("the verbalizer needs a language-model head")
        self.language = context.language
        self.language.requires_grad_(context.trains)
        self.borrowed = not context.trains

    def logits(self, states: Tensor) -> Tensor:
        """[B, H] -> [B, C] in fp32, whatever the autocast around it."""
        with torch.autocast(states.device.type, enabled=False):
            scores: Tensor = self.language(states.float())
        return scores

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `probabilities` [B, C].

        Raises:
            ValueError: the batch has no `mask_at`.
        """
        if batch.mask_at is None:
            raise ValueError("the verbalizer needs a batch with mask_at")
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        logits = self.logits(hidden[rows, batch.mask_at])
        return Output(cross_entropy(logits, batch), {"probabilities": logits.softmax(dim=-1)})
