"""Prompt tuning: trained vectors among the word embeddings (Lester et al., arXiv 2104.08691)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.spec import MethodSpec, TrainDefaults, frozen_defaults

if TYPE_CHECKING:
    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

LEARNING_RATES = {"sequence": 3e-2, "regression": 3e-2, "choice": 3e-2, "token": 1e-2, "span": 1e-2}


class PromptTuning(MethodSpec):
    """Trains P vectors that are inserted among the word embeddings, only at the input."""

    in_input: ClassVar[bool] = True
    init: Literal["normal", "vocab", "labels"] = Field(
        "vocab",
        description="initial values: normal, N(0, 0.02); vocab, embeddings of random tokens; "
        "labels, for each label the mean embedding of its words, then random tokens",
    )
    place: Literal["before_cls", "after_cls"] = Field(
        "after_cls", description="place of the vectors: before or after the text's first token"
    )

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """Our starting points: 3e-2, 1e-2 for tags and spans."""
        return frozen_defaults(LEARNING_RATES, kind)

    def build(self, context: Context) -> Method:
        """P vectors [P, E]."""
        from ptv2_cli.methods.input_vectors import WordVectors

        return WordVectors(self.init, self.input_column, context)

    @property
    def input_column(self) -> int:
        """0 before the first token, 1 after it."""
        return 0 if self.place == "before_cls" else 1

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """Before or after the first token."""
        where = self.place.replace("_cls", " the first token")
        return f"{prompt_len} vectors beside the word embeddings, {where}"

    def peft_obstacles(self, layers: int) -> Iterator[tuple[str, str]]:
        """PEFT cannot put a token before the prompt."""
        if self.place == "after_cls":
            yield (
                "place: after_cls: PEFT puts prompt vectors before everything, the first token too",
                "train it with --set method.place=before_cls",
            )
