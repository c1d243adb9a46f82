"""`generate:` - how a language model writes answers, by the names of transformers' `generate`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ptv2_cli.config.fields import Count, Flag
from ptv2_cli.config.section import Section

Positive = Annotated[float, Field(gt=0)]


class GenerateSection(Section):
    """`generate:` - for tasks whose answer is written; each key is transformers' own."""

    max_new_tokens: Count = Field(
        64,
        description="most tokens of a text, with the end-of-text token; the input leaves room for "
        "them, and longer texts in train are an error",
    )
    min_new_tokens: Count | None = Field(None, description="fewest tokens of a text")
    num_beams: Count = Field(1, description="beams of the beam search; 1: no beam search")
    do_sample: Flag = Field(False, description="draw each token instead of taking the likeliest")
    temperature: Positive | None = Field(
        None, description="divides the logits before a draw; default: 1"
    )
    top_k: Count | None = Field(None, description="draw among the K likeliest tokens; default: all")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="draw among the likeliest tokens that together have this probability"
    )
    repetition_penalty: Positive | None = Field(
        None, description="above 1: tokens that the text already contains become less likely"
    )
    no_repeat_ngram_size: Count | None = Field(
        None, description="no sequence of N tokens is written twice"
    )
    length_penalty: float | None = Field(
        None, description="beam search: above 0 favours longer texts; default: 1"
    )
    early_stopping: Flag | None = Field(
        None, description="beam search: stop as soon as there are as many finished texts as beams"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(
        None, description="seed of do_sample; default: train.seed"
    )
