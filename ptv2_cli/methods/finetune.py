"""Fine-tuning: the whole backbone trains, no prompts."""

from __future__ import annotations

from typing import Any

from ptv2_cli.methods.base import EPOCHS, Method, NoOptions, TrainDefaults


class Finetune(Method):
    """Trains every weight of the backbone, with warm-up and weight decay."""

    Options = NoOptions
    uses_prompt = False
    trains_backbone = True

    @classmethod
    def defaults(cls, kind: str, options: Any) -> TrainDefaults:
        """2e-5, warm-up over 6 % of the steps, weight decay 0.01, as BERT and RoBERTa report."""
        return TrainDefaults(lr=2e-5, epochs=EPOCHS[kind], warmup=0.06, weight_decay=0.01)
