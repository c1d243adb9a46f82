"""One of several inputs: the choices of a question, scored against each other."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.heads.base import HeadContext, LabelledBatch, Output
from ptv2_cli.heads.pooled import PooledHead


class ChoiceHead(PooledHead):
    """Cross entropy over a question's choices, each scored by one output on its pooled vector.

    As GPT (Radford et al. 2018, section 3.3) and BERT (arXiv 1810.04805, section 4.4) have it.
    """

    kind = "choice"

    def __init__(self, context: HeadContext) -> None:
        super().__init__(context, 1)
        # It would add the same to every choice, which the softmax takes away again.
        self.linear.register_parameter("bias", None)

    def forward(self, hidden: Tensor, batch: LabelledBatch) -> Output:
        """Predictions: `probabilities` [Q, C], 0 where a question has no such choice.

        Raises:
            ValueError: a batch that does not say which rows are the choices of a question.
        """
        if batch.choices is None:
            raise ValueError("the choice head needs a batch with choices")
        scores = self.logits(self.pool(hidden, batch)).squeeze(-1)
        missing = batch.choices < 0
        logits = scores[batch.choices.clamp(min=0)].masked_fill(missing, float("-inf"))
        loss = None if batch.labels is None else F.cross_entropy(logits, batch.labels)
        return Output(loss, {"probabilities": logits.softmax(dim=-1)})
