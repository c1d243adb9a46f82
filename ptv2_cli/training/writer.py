"""Answers that a learner writes, for the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from ptv2_cli.backbones.language.language_model import LanguageModel
from ptv2_cli.backbones.language.writing import write
from ptv2_cli.backbones.sites import PlainBatch
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.kinds import IGNORE
from ptv2_cli.learner import Learner
from ptv2_cli.rng import derive
from ptv2_cli.scoring.scores import Array
from ptv2_cli.training.drawing import Drawing


@dataclass(frozen=True)
class Writer:
    """Writes the answers to a batch: `text` [B], and `log_probability` [B] unless by beams."""

    learner: Learner
    tokenizer: Any
    config: GenerationConfig
    drawing: Drawing | None
    """How tokens are drawn one after another; None: they are not, or by `generate` for beams."""
    seed: int | None
    """Of what `generate` draws; None: nothing."""
    streamer: Any = None
    """Gets the tokens of a single row as they come; see transformers' TextStreamer."""

    def __call__(self, batch: Batch) -> dict[str, Array]:
        """Write the answer of each row; those that the batch has are not looked at."""
        language = self.learner.head.language
        assert isinstance(language, LanguageModel)
        asked = questions(batch, decodes=self.learner.backbone.decodes)
        # `generate` draws from the global generator, which others read too.
        with torch.random.fork_rng(enabled=self.seed is not None):
            if self.seed is not None:
                first = batch.features[0].row if batch.features else 0
                torch.manual_seed(derive(self.seed, f"generate/{first}"))
            prompts = self.learner.prompts()
            written = write(
                self.learner.backbone,
                language,
                asked,
                prompts,
                self.config,
                self.streamer,
                None if self.drawing is None else self.drawing.processors(asked),
            )
        lengths = written.lengths.tolist()
        ids = [row[:length] for row, length in zip(written.ids.tolist(), lengths, strict=True)]
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        answers: dict[str, Array] = {"text": np.array([text.strip() for text in texts], object)}
        if written.log_probability is not None:
            answers["log_probability"] = written.log_probability.cpu().numpy()
        return answers


def questions(batch: Batch, *, decodes: bool) -> PlainBatch:
    """The batch without its answers, which of a causal model follow the text in the same row."""
    ids, mask = batch.input_ids, batch.attention_mask
    if batch.labels is not None and not decodes:
        answer = batch.labels != IGNORE
        # The first token of the answer is the label of the text's last one.
        lengths = torch.where(answer.any(1), answer.int().argmax(1) + 1, mask.sum(1))
        mask = mask * (torch.arange(mask.shape[1], device=mask.device) < lengths[:, None])
        width = int(lengths.max())
        ids, mask = ids[:, :width], mask[:, :width]
    width = ids.shape[1]
    types, slots = batch.token_type_ids, batch.slots
    return PlainBatch(
        ids,
        mask,
        None if types is None else types[:, :width],
        None if slots is None else slots[:, :width],
    )
