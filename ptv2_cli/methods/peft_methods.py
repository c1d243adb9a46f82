"""Methods of the library PEFT, under its own names: lora, dora, rslora, ia3, ln_tuning.

The library puts layers into the frozen backbone, and only these train. What they are is in
`peft_layers`; here are their options and defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ptv2_cli.config.fields import Count
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.spec import NORMS, MethodSpec, TrainDefaults
from ptv2_cli.methods.targets import ALL_LINEAR, PeftOptions, Targets

if TYPE_CHECKING:
    from torch import nn

    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

WARMUP = 0.06
"""Share of the steps, as in the papers on LoRA (table 9) and IA3."""


class PeftMethod(MethodSpec):
    """A method whose layers the library PEFT puts into the frozen backbone."""

    uses_prompt: ClassVar[bool] = False
    in_peft: ClassVar[bool] = True
    package: ClassVar[str | None] = "peft"
    quantized: ClassVar[tuple[str | None, ...]] = (None, "int8", "int4")
    """Values of `backbone.quantize` that it can be used with."""
    lr: ClassVar[float]
    """Default learning rate, for every kind of task."""

    target_modules: Targets | None = Field(None, description="modules, by the ends of their names")

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """The rate of the method's paper, with warm-up, without weight decay."""
        return TrainDefaults(lr=self.lr, epochs=kind.epochs, warmup=WARMUP)

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Integers that PEFT's layers of this method cannot stand beside."""
        if config.backbone.quantize not in self.quantized:
            kind = config.backbone.quantize
            yield "name", f"PEFT's layers of this method cannot stand beside {kind} weights"

    def build(self, context: Context) -> Method:
        """The layers that train, inside `context.model`."""
        from ptv2_cli.methods.peft_layers import PeftLayers

        return PeftLayers(self.peft_options(), context)

    @property
    def changes_backbone(self) -> bool:
        """Always: its layers stand among the backbone's."""
        return True

    def misfits(self, model: nn.Module) -> Iterator[tuple[str, str, str]]:
        """Targets that the model does not have, or that are too small."""
        from ptv2_cli.methods.peft_layers import misfits

        return misfits(self.peft_options(), model)

    def peft_options(self) -> PeftOptions:
        """What PEFT is told."""
        raise NotImplementedError


class Lora(PeftMethod):
    """Adds a trained product of two thin matrices to linear layers (LoRA, arXiv 2106.09685)."""

    quantized: ClassVar[tuple[str | None, ...]] = (None, "int8")
    lr: ClassVar[float] = 5e-4
    use_dora: ClassVar[bool] = False
    use_rslora: ClassVar[bool] = False

    r: Count = Field(8, description="rank: columns of one matrix and rows of the other")
    lora_alpha: Count = Field(
        16, description="the product is multiplied by lora_alpha / r (rslora: / sqrt(r))"
    )
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="on the input of the product, beside the backbone's dropout"
    )
    target_modules: Targets = Field(
        ALL_LINEAR,
        description="linear layers, by the ends of their names ([query, value]) or a regular "
        "expression for whole names; all-linear as in QLoRA (arXiv 2305.14314)",
    )
    init_lora_weights: Literal[True, "gaussian"] = Field(
        True, description="first values of the first matrix: true as in LoRA's code, or gaussian"
    )

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Also dropout where it cannot be drawn."""
        yield from super().problems(config, stacks)
        if config.train.compile and self.lora_dropout:
            what = "dropout belongs to the run's seed, and compiled layers cannot draw it"
            yield "lora_dropout", what

    def peft_options(self) -> PeftOptions:
        """All options, and the kind of LoRA."""
        others = {
            "r": self.r,
            "lora_alpha": self.lora_alpha,
            "lora_dropout": self.lora_dropout,
            "init_lora_weights": self.init_lora_weights,
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
        }
        return PeftOptions("LORA", self.target_modules, others=others)

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """The rank, and where."""
        targets = self.target_modules
        where = "all linear layers" if targets == ALL_LINEAR else f"the layers {_shown(targets)}"
        return f"a product of rank {self.r} beside {where}"


class Dora(Lora):
    """LoRA that also trains the length of each weight's rows (DoRA, arXiv 2402.09353)."""

    use_dora: ClassVar[bool] = True


class RsLora(Lora):
    """LoRA whose product is multiplied by lora_alpha / sqrt(r) (rsLoRA, arXiv 2312.03732)."""

    use_rslora: ClassVar[bool] = True


class IA3(PeftMethod):
    """Trains a factor for each key, value and inner feed-forward unit (IA3, arXiv 2205.05638)."""

    lr: ClassVar[float] = 3e-3

    target_modules: Targets | None = Field(
        None,
        description="linear layers whose output is scaled, and those of feedforward_modules; "
        "default: the paper's, keys, values and the layer that ends the feed-forward part",
    )
    feedforward_modules: Targets | None = Field(
        None, description="those of target_modules whose input is scaled in place of the output"
    )

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Also one of the two options without the other."""
        yield from super().problems(config, stacks)
        if (self.target_modules is None) != (self.feedforward_modules is None):
            key = "feedforward_modules" if self.feedforward_modules is None else "target_modules"
            yield key, "target_modules and feedforward_modules are given together or not at all"

    def peft_options(self) -> PeftOptions:
        """Both lists of modules."""
        return PeftOptions("IA3", self.target_modules, self.feedforward_modules)

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """What is scaled."""
        if self.target_modules is None:
            return "factors of keys, values and feed-forward units"
        return f"factors of the layers {_shown(self.target_modules)}"


class LNTuning(PeftMethod):
    """Trains the weights of the norms (arXiv 2312.11420)."""

    lr: ClassVar[float] = 1e-3

    target_modules: Targets | None = Field(
        None, description="norms, by the ends of their names; default: all of them"
    )

    def occupies(self, stacks: Mapping[Stack, int]) -> tuple[str, ...]:
        """The norms too."""
        return (*super().occupies(stacks), NORMS)

    def peft_options(self) -> PeftOptions:
        """The norms."""
        return PeftOptions("LN_TUNING", self.target_modules)

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """Which norms."""
        targets = self.target_modules
        return "no prompts; all norms train" if targets is None else f"the norms {_shown(targets)}"


def _shown(targets: Targets) -> str:
    return targets if isinstance(targets, str) else ", ".join(targets)
