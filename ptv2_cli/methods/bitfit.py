"""BitFit: the biases train, all other weights are frozen (arXiv 2106.10199)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.spec import NORMS, MethodSpec, TrainDefaults, frozen_defaults

if TYPE_CHECKING:
    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

LEARNING_RATES = {"sequence": 3e-3, "regression": 3e-3, "choice": 3e-3, "token": 1e-2, "span": 3e-3}


class BitFit(MethodSpec):
    """Trains the biases of the backbone's linear layers and norms.

    What trains is a difference that is added to each bias and starts at zero (arXiv 2106.10199).
    """

    uses_prompt: ClassVar[bool] = False

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """Our starting points: 3e-3, 1e-2 for tags."""
        return frozen_defaults(LEARNING_RATES, kind)

    def build(self, context: Context) -> Method:
        """A difference for each bias.

        Raises:
            BackboneError: the backbone has no biases.
        """
        from ptv2_cli.methods.biases import Biases

        return Biases(context)

    def occupies(self, stacks: Mapping[Stack, int]) -> tuple[str, ...]:
        """All biases; `ln_tuning` trains those of norms too."""
        return ("biases", NORMS)

    def unshared(self, family: str, shared_tables: bool) -> str | None:
        """DeBERTa's linear layers also project a table of positions that all rows share."""
        if not shared_tables:
            return None
        return f"bitfit in {family} changes positions that all rows of a pass share"

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """All layers."""
        return "every bias of linear layers and norms"
