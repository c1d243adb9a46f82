"""P-tuning v2: trained keys and values before those of the text (arXiv 2110.07602)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from ptv2_cli.config.fields import Count, Dropout, Flag
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.kinds import KindSpec
from ptv2_cli.methods.initial import Init, drawn_std
from ptv2_cli.methods.layers import Layers, attention_places, parse_layers
from ptv2_cli.methods.spec import OWN_SOFTMAX, MethodSpec, TrainDefaults, frozen_defaults

if TYPE_CHECKING:
    from ptv2_cli.backbones.sites import Stack
    from ptv2_cli.methods.base import Context, Method

PAPER: Mapping[str, Any] = {
    "init": "normal",
    "dropout": None,
    "position_offset": "shift",
    "softmax": "shared",
    "gates": "none",
    "key_lr_factor": 1.0,
}
"""What `recipe: paper` stands for: the options as the paper's code has them."""
BY_TASK = ("init", "dropout")
"""Options whose default without a recipe depends on the kind of task or on the backbone."""
OF_KINDS: Mapping[str, Mapping[str, Any]] = {"token": {"init": "matched", "dropout": "off"}}
"""These defaults by kind; a kind or an option that is not listed has PAPER's."""
OF_CAUSAL: Mapping[str, Any] = {"init": "vocab"}
"""These defaults for causal models, of all kinds."""
DEFAULTS: Mapping[str, Any] = {name: value for name, value in PAPER.items() if name not in BY_TASK}
"""The other defaults without a recipe. docs/levers.md compares all of them with others."""
OF_NETWORKS = {"none": (), "mlp": ("init", "key_lr_factor"), "residual": ("key_lr_factor",)}
"""For each `reparam`, options whose only possible default is PAPER's value."""
PAPER_RATES = {"sequence": 1e-2, "regression": 1e-2, "choice": 9e-3, "token": 3e-2, "span": 5e-3}
"""Default of `train.lr` by kind with `recipe: paper`."""
NETWORK_RATES = {
    "sequence": 3e-3,
    "regression": 3e-3,
    "choice": 3e-3,
    "token": 2e-3,
    "span": 1e-3,
}
"""For the network of `reparam: mlp`, which fails at the rates of a prompt (docs/ablations.md)."""
LEARNING_RATES = {**PAPER_RATES, "token": 6e-2}
"""Without a recipe; higher for tagging, whose head has a rate of its own."""
HEAD_RATES: Mapping[str, float] = {"token": 5e-3}
"""Default of `head.lr` by kind, without a recipe; a kind that is not listed has train.lr."""


class PTuningV2(MethodSpec):
    """Trains keys and values before those of the text in every layer: in BERT 2 * L * H * P."""

    recipe: Literal["paper"] | None = Field(
        None,
        exclude=True,  # the fingerprint covers the options that it stands for
        description="paper: options that the config does not give have their published values "
        "(init: normal, position_offset: shift, ...), and head.lr defaults to train.lr",
    )
    layers: Layers | None = Field(
        None, description="layers that get a prompt: 17-24, 1,3,5, first:8, last:8; default: all"
    )
    sites: Literal["all", "encoder", "decoder", "cross"] = Field(
        "all", description="encoder-decoders: the attention that gets prompts"
    )
    reparam: Literal["none", "mlp", "residual"] = Field(
        "none",
        description="mlp: a network computes the prompt and trains with it (arXiv 2101.00190); "
        "residual: the output of a small network is added to the prompt (arXiv 2305.03937)",
    )
    reparam_hidden: Count = Field(512, description="hidden width of the network of reparam")
    init: Init | None = Field(
        None,
        description="initial values: normal, N(0, 0.02) as published; {normal: STD}, N(0, STD); "
        "zero; keys and values that the frozen model computes for words (vocab, labels, unused, "
        "{text: WORDS}), for train rows (rows) or for 8 tokens from random places of them (chunks, "
        "arXiv 2508.17032); matched, draws with the mean and standard deviation of each value over "
        "train rows; {run: DIR}, the prompt of a finished run; default: vocab for causal "
        "models, else matched for tagging, else normal",
    )
    dropout: Dropout = Field(
        None,
        description="dropout on prompt keys and values; null: the backbone's hidden dropout; "
        "default: off for tagging, else null",
    )
    position_offset: Literal["shift", "keep"] = Field(
        DEFAULTS["position_offset"],
        description="shift: the text's positions begin at prompt_len, as published; keep: at 0",
    )
    softmax: Literal["shared", "separate"] = Field(
        DEFAULTS["softmax"],
        description="shared: one softmax over prompt and text, as published; separate: a second "
        "softmax over the prompt, times a trained gate for each head that starts at 0 "
        "(LLaMA-Adapter, arXiv 2303.16199); the text's positions then begin at 0",
    )
    gates: Literal["none", "apt"] = Field(
        DEFAULTS["gates"],
        description="apt: multiply keys and values by a trained scale for each layer and by a gate "
        "for each position, computed from the text's first token (APT, arXiv 2305.15212)",
    )
    key_lr_factor: Annotated[float, Field(ge=0)] = Field(
        DEFAULTS["key_lr_factor"],
        description="learning rate of the keys as a multiple of train.lr, the rate of the values; "
        "0: the keys do not train (arXiv 2508.17032)",
    )
    freeze_first: Flag = Field(
        False,
        description="causal models: the first prompt position, which gets much attention, keeps "
        "its initial value (arXiv 2506.06266)",
    )

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        """The options, with default values for those that are not given."""
        if not isinstance(value, dict):
            return value
        value = {
            name: given for name, given in value.items() if name != "init" or given is not None
        }
        if value.get("recipe") == "paper":
            return {**PAPER, **value}
        fixed = OF_NETWORKS.get(str(value.get("reparam")), ())
        return {**DEFAULTS, **{name: PAPER[name] for name in fixed}, **value}

    def defaults(self, kind: KindSpec) -> TrainDefaults:
        """Published rates, or our starting points for a prompt or the network of `mlp`."""
        if self.recipe == "paper":
            return frozen_defaults(PAPER_RATES, kind)
        rates = NETWORK_RATES if self.reparam == "mlp" else LEARNING_RATES
        return replace(frozen_defaults(rates, kind), head_lr=HEAD_RATES.get(kind.rates_name))

    def suited_to(self, kind: KindSpec, causal: bool) -> PTuningV2:
        """The same options with the `init` and `dropout` that suit, if the config gives none."""
        own = {**PAPER, **OF_KINDS.get(kind.rates_name, {}), **(OF_CAUSAL if causal else {})}
        missing = (name for name in BY_TASK if name not in self.model_fields_set)
        return self.model_copy(update={name: own[name] for name in missing})

    def build(self, context: Context) -> Method:
        """Keys and values [1, K, P, D] for each site in `layers` of the stacks in `sites`."""
        from ptv2_cli.methods.gates import GatedPrefix
        from ptv2_cli.methods.prefix import Prefix

        separate, adaptive = self.softmax == "separate", self.gates == "apt"
        prefix: Callable[..., Method] = Prefix
        if separate or adaptive:
            prefix = partial(GatedPrefix, separate=separate, adaptive=adaptive)
        return prefix(
            context,
            self.layers_by_stack(Counter(site.stack for site in context.sites)),
            init=self.init or PAPER["init"],
            reparam=self.reparam,
            hidden=self.reparam_hidden,
            key_lr_factor=self.key_lr_factor,
            freeze_first=self.freeze_first,
            dropout=self.dropout,
            offset=context.prompt_len if self.shifts_positions else 0,
        )

    @property
    def inside_attention(self) -> str | None:
        """A separate softmax, gates on keys and values, both, or None."""
        softmax = OWN_SOFTMAX if self.softmax == "separate" else super().inside_attention
        gates = "gates on keys and values" if self.gates == "apt" else None
        return " and ".join(part for part in (softmax, gates) if part) or None

    @property
    def shifts_positions(self) -> bool:
        """True for `position_offset: shift`, unless the prompt has a separate softmax."""
        return self.position_offset == "shift" and self.softmax == "shared"

    @property
    def causal_option(self) -> str | None:
        """`freeze_first`, if it is on."""
        return "freeze_first" if self.freeze_first else None

    @property
    def inherited_run(self) -> str | None:
        """The folder of `init: {run: DIR}`."""
        run = isinstance(self.init, dict) and self.init.get("run")
        return str(run) if run else None

    def problems(self, config: RunConfig, stacks: Mapping[Stack, int]) -> Iterator[tuple[str, str]]:
        """Wrong `layers` or `sites`, and options that exclude each other."""
        if self.init == "zero" and self.reparam == "mlp":
            yield "init", "init: zero with reparam: mlp keeps all prompts equal throughout training"
        elif self.init and drawn_std(self.init) is None and self.reparam == "mlp":
            yield "init", "init sets keys and values, but with reparam: mlp the network sets them"
        if self.init == "zero" and self.softmax == "separate":
            what = "init: zero with softmax: separate: values and gates at zero, nothing learns"
            yield "init", what
        if self.gates == "apt" and config is not None and config.train.compile:
            yield "gates", "gates: apt reads hidden states inside layers, which train.compile hides"
        if self.key_lr_factor != 1 and self.reparam != "none":
            yield (
                "key_lr_factor",
                f"with reparam: {self.reparam} one network computes keys and values, which have "
                "no rates of their own",
            )
        if self.freeze_first and self.reparam == "mlp":
            yield "freeze_first", "with reparam: mlp the network computes every position"
        if self.freeze_first and config is not None and config.prompt_len == 1:
            yield "freeze_first", "the first position is the only one: prompt_len is 1"
        try:
            prompted = self._stacks(stacks)
        except ValueError as error:
            yield "sites", str(error)
            return
        try:
            self.layers_by_stack(prompted)
        except ValueError as error:
            yield "layers", str(error)

    def occupies(self, stacks: Mapping[Stack, int]) -> tuple[str, ...]:
        """The attention of each layer that gets prompts."""
        return attention_places(self.layers_by_stack(stacks))

    def unprompted_layers(self, stacks: Mapping[Stack, int]) -> int:
        """The layers below the lowest of `layers`; 0 for encoder-decoders with cross attention."""
        layers = self.layers_by_stack(stacks)
        return 0 if "cross" in stacks else min(min(numbers) for numbers in layers.values())

    def without_init(self) -> PTuningV2:
        """The same options with an init that needs neither the backbone nor another run."""
        return self.model_copy(update={"init": "normal"})

    def describe(self, prompt_len: int | None, stacks: Mapping[Stack, int]) -> str:
        """Layers with a prompt, and the first position of the text."""
        parts = [
            f"{len(layers)} of {stacks[stack]} {'' if stack == 'self' else f'{stack} '}layers"
            for stack, layers in self.layers_by_stack(stacks).items()
        ]
        first = prompt_len if self.shifts_positions else 0
        separate = self.softmax == "separate"
        where = "with a softmax of their own" if separate else "before the text's own"
        gated = "gated " if self.gates == "apt" else ""
        return (
            f"{prompt_len} {gated}keys and values {where} in {', '.join(parts)}; "
            f"the text's positions begin at {first}"
        )

    def peft_obstacles(self, layers: int) -> Iterator[tuple[str, str]]:
        """Gates, a separate softmax, `position_offset: keep`, and layers without a prompt."""
        if self.gates == "apt":
            what = (
                "gates: apt: they differ from text to text, and PEFT's prefix is the same for all"
            )
            yield what, "train it with --unset method.gates"
        if self.softmax == "separate":
            what = "softmax: separate: PEFT's prefix shares the text's softmax"
            yield what, "train it with --unset method.softmax"
        elif self.position_offset == "keep":
            yield (
                "position_offset: keep: PEFT's prefix is a past of the text, whose positions "
                "begin after it (shift); the logits would not be those of the run",
                "train it with --set method.position_offset=shift",
            )
        if len(parse_layers(self.layers, layers)) < layers:
            yield (
                f"layers: {self.layers}: PEFT has a prefix for every layer, and no way to leave "
                "one out",
                "train it with --unset method.layers",
            )

    def layers_by_stack(self, stacks: Mapping[Stack, int]) -> dict[Stack, tuple[int, ...]]:
        """The layers of each stack that get prompts, from 0.

        Raises:
            ValueError: the model has no such stack, or a stack has no such layer.
        """
        return {
            stack: parse_layers(self.layers, count) for stack, count in self._stacks(stacks).items()
        }

    def _stacks(self, stacks: Mapping[Stack, int]) -> Mapping[Stack, int]:
        """The stacks that get prompts, with their numbers of layers."""
        if self.sites == "all":
            return stacks
        if "self" in stacks:
            raise ValueError(
                f"sites: {self.sites} is for encoder-decoders, this backbone has one stack"
            )
        if self.sites not in stacks:
            raise ValueError(
                f"sites: {self.sites} is never reached: a head that reads the text's own tokens "
                "runs the encoder alone"
            )
        return {self.sites: stacks[self.sites]}
