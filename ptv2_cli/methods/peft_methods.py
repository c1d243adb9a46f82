"""Methods of the library PEFT, under its own names: lora, dora, rslora, ia3, ln_tuning.

The library puts layers into the frozen backbone, and only these train. This file has the options
and defaults, `peft_layers` the module.
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

    target_modules: Targets | None = Field(
        None, description="modules to change, by the ends of their names"
    )

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """The method's `lr`, warm-up over 6 % of the steps, no weight decay."""
        return TrainDefaults(lr=self.lr, epochs=kind.epochs, warmup=WARMUP)

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Quantized weights that PEFT's layers do not support."""
        if config.backbone.quantize not in self.quantized:
            kind = config.backbone.quantize
            yield "name", f"PEFT's layers of this method cannot stand beside {kind} weights"

    def build(self, context: Context) -> Method:
        """The layers that train, inside `context.model`."""
        from ptv2_cli.methods.peft_layers import PeftLayers

        return PeftLayers(self.peft_options(), context)

    @property
    def changes_backbone(self) -> bool:
        """Always: PEFT replaces modules of the backbone."""
        return True

    def misfits(self, model: nn.Module) -> Iterator[tuple[str, str, str]]:
        """Targets that the model lacks, or that are too small for the rank."""
        from ptv2_cli.methods.peft_layers import misfits

        return misfits(self.peft_options(), model)

    def peft_options(self) -> PeftOptions:
        """The options for PEFT."""
        raise NotImplementedError


class Lora(PeftMethod):
    """Adds a trained low-rank product B A to the weights of linear layers (arXiv 2106.09685)."""

    quantized: ClassVar[tuple[str | None, ...]] = (None, "int8")
    lr: ClassVar[float] = 5e-4
    use_dora: ClassVar[bool] = False
    use_rslora: ClassVar[bool] = False

    r: Count = Field(8, description="rank of the product")
    lora_alpha: Count = Field(
        16, description="scales the product by lora_alpha / r (rslora: lora_alpha / sqrt(r))"
    )
    lora_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="dropout on the input of the product, in addition to the backbone's",
    )
    target_modules: Targets = Field(
        ALL_LINEAR,
        description="linear layers to change, by the ends of their names ([query, value]) or a "
        "regular expression for whole names; all-linear: all, as in QLoRA (arXiv 2305.14314)",
    )
    init_lora_weights: Literal[True, "gaussian"] = Field(
        True, description="initial values of A: true: as in LoRA's code; gaussian: N(0, 1 / r)"
    )

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Also `lora_dropout` with `train.compile`."""
        yield from super().problems(config, stacks)
        if config.train.compile and self.lora_dropout:
            what = "dropout belongs to the run's seed, and compiled layers cannot draw it"
            yield "lora_dropout", what

    def peft_options(self) -> PeftOptions:
        """All options, and whether it is DoRA or rsLoRA."""
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
    """LoRA that also trains the norm of each row of the weight (DoRA, arXiv 2402.09353)."""

    use_dora: ClassVar[bool] = True


class RsLora(Lora):
    """LoRA with the product scaled by lora_alpha / sqrt(r) (rsLoRA, arXiv 2312.03732)."""

    use_rslora: ClassVar[bool] = True


class IA3(PeftMethod):
    """Trains a factor for each key, value and hidden feed-forward unit (arXiv 2205.05638)."""

    lr: ClassVar[float] = 3e-3

    target_modules: Targets | None = Field(
        None,
        description="linear layers whose output is scaled, and those of feedforward_modules; "
        "default: keys, values and the last layer of the feed-forward part, as in the paper",
    )
    feedforward_modules: Targets | None = Field(
        None,
        description="those of target_modules whose input is scaled instead of the output; "
        "default: the last layer of the feed-forward part",
    )

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Also one of the two options alone."""
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
    """Trains the norms, weights and biases (arXiv 2312.11420)."""

    lr: ClassVar[float] = 1e-3

    target_modules: Targets | None = Field(
        None, description="norms that train, by the ends of their names; default: all"
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
