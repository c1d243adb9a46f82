"""`method: gated_prompt`, after LLaMA-Adapter (arXiv 2303.16199): its options and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.spec import MethodSpec, TrainDefaults, frozen_defaults

if TYPE_CHECKING:
    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

LEARNING_RATES = {"sequence": 3e-2, "regression": 3e-2, "choice": 3e-2, "token": 5e-2, "span": 1e-2}


class GatedPrompt(MethodSpec):
    """Trains prompts with a softmax of their own, times a gate that starts at zero."""

    gated: ClassVar[bool] = True
    std: Annotated[float, Field(gt=0)] = Field(
        0.02, description="standard deviation of the first keys and values"
    )

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """3e-2, and 5e-2 for tags: the gates have to open first."""
        return frozen_defaults(LEARNING_RATES, kind)

    def build(self, context: Context) -> Method:
        """Keys, values and gates for every site."""
        from ptv2_example.gated_module import GatedModule

        return GatedModule(self.std, context)

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """The line of `ptv2 check`."""
        return f"{prompt_len} keys and values with a softmax and a gate of their own in all layers"
