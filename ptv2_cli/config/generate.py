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
        description="most tokens of an answer, its end-of-text token included; the input keeps so "
        "much room, and longer answers of train are an error",
    )
    min_new_tokens: Count | None = Field(None, description="least tokens of an answer")
    num_beams: Count = Field(1, description="beams of a beam search; 1: none")
    do_sample: Flag = Field(False, description="draw each token instead of taking the likeliest")
    temperature: Positive | None = Field(
        None, description="divides the logits before a draw; default: 1"
    )
    top_k: Count | None = Field(None, description="draw among the K likeliest tokens; default: all")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="draw among the likeliest tokens of this probability together"
    )
    repetition_penalty: Positive | None = Field(
        None, description="more than 1: tokens that stand in the text already are less likely"
    )
    no_repeat_ngram_size: Count | None = Field(
        None, description="no N tokens in a row are written twice"
    )
    length_penalty: float | None = Field(
        None, description="of beams: more than 0 favours longer answers; default: 1"
    )
    early_stopping: Flag | None = Field(
        None, description="of beams: end with as many whole answers as beams"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(
        None, description="of the draws of do_sample; default: train.seed"
    )
