"""No method: the pretrained model is asked as it is, zero-shot or with examples before the text."""

from __future__ import annotations

from typing import Any

from ptv2_cli.methods.base import Method, NoOptions, TrainDefaults


class NoMethod(Method):
    """Trains nothing: the backbone's own words answer (`head: verbalizer`), evaluated once.

    Discrete prompting, as in Brown et al. 2020 (arXiv 2005.14165).
    """

    Options = NoOptions
    uses_prompt = False
    trains = False

    @classmethod
    def defaults(cls, kind: str, options: Any) -> TrainDefaults:
        """None of them mean anything."""
        return TrainDefaults(lr=None, epochs=None, warmup=None, weight_decay=None)
