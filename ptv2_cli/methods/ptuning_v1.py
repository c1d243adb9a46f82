"""P-tuning: a small network computes vectors at the slots of a template (arXiv 2103.10385)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ptv2_cli.config.fields import Text
from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.spec import MethodSpec, TrainDefaults

if TYPE_CHECKING:
    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

FROZEN_LR = 1e-3
TUNED_LR = 1e-4


class PTuningV1(MethodSpec):
    """Trains vectors at the slots of a template, and the small network that computes them."""

    uses_template: ClassVar[bool] = True
    in_input: ClassVar[bool] = True
    template: Text | None = Field(
        None,
        description="order of vectors and columns, {p:3} {premise} {p:3} {hypothesis} {mask}, "
        "where {p:3} stands for 3 vectors; default: prompt_len vectors spread around the columns",
    )
    encoder: Literal["lstm", "mlp"] = Field(
        "lstm", description="network of the vectors: lstm, a BiLSTM and an MLP; mlp alone"
    )
    train_backbone: bool = Field(False, description="whether the backbone trains too")
    backbone_lr: Annotated[float, Field(gt=0)] = Field(
        1e-5, description="learning rate of the backbone, if it trains"
    )

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """1e-3 with a frozen backbone, 1e-4 with `train_backbone: true`."""
        return TrainDefaults(lr=TUNED_LR if self.train_backbone else FROZEN_LR, epochs=kind.epochs)

    def build(self, context: Context) -> Method:
        """P vectors [P, E] for the batch's slots."""
        from ptv2_cli.methods.input_vectors import EncodedVectors

        vectors = EncodedVectors(self.encoder, context, trains_backbone=self.train_backbone)
        vectors.backbone_lr = self.backbone_lr
        return vectors

    @property
    def trains_backbone(self) -> bool:
        """True for `train_backbone: true`."""
        return self.train_backbone

    @property
    def given_template(self) -> str | None:
        """The option `template`."""
        return self.template

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """At the template's slots."""
        return f"{prompt_len} vectors at the slots of the template, out of an {self.encoder}"

    def peft_obstacles(self, layers: int) -> Iterator[tuple[str, str]]:
        """Always: PEFT has no templates."""
        yield "PEFT puts prompt vectors before the text, not at the slots of a template", ""
