"""P-tuning v2: trained keys and values before every layer's own (arXiv 2110.07602)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, WithJsonSchema
from torch import Tensor, nn

from ptv2_cli.backbones.sites import KeysValues, Prompts, Site, Stack
from ptv2_cli.config.schema import Count, Dropout, Section
from ptv2_cli.methods.base import Context, Method, TrainDefaults, frozen_defaults, parse_layers
from ptv2_cli.methods.initial import PUBLISHED_STD, Init, drawn_std, first_values
from ptv2_cli.rng import SeededDropout, normal_

LEARNING_RATES = {"sequence": 1e-2, "regression": 1e-2, "choice": 9e-3, "token": 3e-2, "span": 5e-3}


def _layers_text(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return ",".join(str(layer) for layer in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    return value


Layers = Annotated[
    str,
    BeforeValidator(_layers_text),
    WithJsonSchema({"type": ["string", "integer", "array"], "items": {"type": "integer"}}),
]


class PTuningV2Options(Section):
    """Options of `method: ptuning_v2`."""

    layers: Layers | None = Field(
        None, description="layers that get prompts: 17-24, 1,3,5, first:8, last:8; default: all"
    )
    sites: Literal["all", "encoder", "decoder", "cross"] = Field(
        "all", description="of an encoder-decoder: which attention gets prompts"
    )
    reparam: Literal["none", "mlp"] = Field(
        "none", description="mlp: prompts come out of a network that trains with them"
    )
    reparam_hidden: Count = Field(512, description="hidden width of that network")
    init: Init = Field(
        "normal",
        description="normal is N(0, 0.02) as published; {normal: STD}; zero; what the frozen model "
        "computes for words: vocab, labels, unused, {text: WORDS}; or {run: DIR}",
    )
    dropout: Dropout = Field(
        None, description="on prompt keys and values; default: the backbone's hidden dropout"
    )
    position_offset: Literal["shift", "keep"] = Field(
        "shift", description="shift: the text's positions begin at prompt_len, as published"
    )


class Direct(nn.Module):
    """Prompt values that train as they are: [P, W], W the width of all sites together."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.prompt = nn.Parameter(values)

    def forward(self) -> Tensor:
        """Prompt values [P, W]."""
        return self.prompt


class Reparameterized(nn.Module):
    """Embedding(P, H) -> Linear(H, hidden) -> Tanh -> Linear(hidden, W), as published."""

    def __init__(
        self, length: int, size: int, hidden: int, width: int, std: float, init: torch.Generator
    ) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.empty(length, size))
        self.network = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, width))
        normal_(self.prompt, std, init)
        for name, parameter in self.network.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                normal_(parameter, PUBLISHED_STD, init)

    def forward(self) -> Tensor:
        """Prompt values [P, W]."""
        values: Tensor = self.network(self.prompt)
        return values


class PTuningV2(Method):
    """Trains keys and values at every layer, or at `layers`: 2 * L * H * P values in BERT.

    forward gives [1, K, P, D] for each chosen site.
    """

    Options = PTuningV2Options

    def __init__(self, options: PTuningV2Options, prompt_len: int, context: Context) -> None:
        super().__init__(options, prompt_len, context)
        self.sites = _chosen(options, context.sites)
        self.length = prompt_len
        self.lowest = min(site.layer for site in self.sites.values())
        self.offset = prompt_len if options.position_offset == "shift" else 0
        self.source: Direct | Reparameterized
        if options.reparam == "mlp":
            width = sum(site.width for site in self.sites.values())
            hidden, std = options.reparam_hidden, drawn_std(options.init)
            assert std is not None
            self.source = Reparameterized(
                prompt_len, context.hidden_size, hidden, width, std, context.init
            )
        else:
            values, note = first_values(options.init, prompt_len, self.sites, context)
            self.source = Direct(values)
            self.notes = (note,) if note else ()
        probability = context.dropout if options.dropout is None else options.dropout
        self.dropout = SeededDropout(
            0.0 if probability == "off" else probability, context.seed, "dropout/prompt"
        )

    @classmethod
    def defaults(cls, kind: str, options: Any) -> TrainDefaults:
        """Our starting points: 1e-2, 3e-2 for tags, 5e-3 for spans."""
        return frozen_defaults(LEARNING_RATES, kind)

    @classmethod
    def shifts_positions(cls, options: PTuningV2Options) -> bool:
        """True for `position_offset: shift`."""
        return options.position_offset == "shift"

    @classmethod
    def check(
        cls, options: PTuningV2Options, stacks: Mapping[Stack, int]
    ) -> tuple[str, str] | None:
        """A complaint about `layers` or `sites`, or about an init that the network forbids."""
        if options.init == "zero" and options.reparam == "mlp":
            return "init", "init: zero with reparam: mlp makes all prompts equal for ever"
        if drawn_std(options.init) is None and options.reparam == "mlp":
            return "init", "init sets keys and values, which reparam: mlp makes out of its network"
        key = "sites"
        try:
            prompted = _prompted(options, stacks)
            key = "layers"
            _layers(options, prompted)
        except ValueError as error:
            return key, str(error)
        return None

    @classmethod
    def unprompted(cls, options: PTuningV2Options, stacks: Mapping[Stack, int]) -> int:
        """The layers below the lowest of `layers`, where there is one stack; else 0."""
        layers = _layers(options, _prompted(options, stacks))
        return 0 if "cross" in stacks else min(min(numbers) for numbers in layers.values())

    @classmethod
    def to_load(cls, options: PTuningV2Options) -> PTuningV2Options:
        """The same options with an init that asks neither the backbone nor another run."""
        return options.model_copy(update={"init": "normal"})

    @classmethod
    def places(
        cls, options: PTuningV2Options, prompt_len: int | None, stacks: Mapping[Stack, int]
    ) -> str:
        """The layers, and where the text's positions begin."""
        parts = [
            f"{len(layers)} of {stacks[stack]} {'' if stack == 'self' else f'{stack} '}layers"
            for stack, layers in _layers(options, _prompted(options, stacks)).items()
        ]
        first = prompt_len if cls.shifts_positions(options) else 0
        return (
            f"{prompt_len} keys and values before the text's own in {', '.join(parts)}; "
            f"the text's positions begin at {first}"
        )

    def forward(self) -> Prompts:
        """Keys and values of every chosen site, dropout applied."""
        values: Tensor = self.dropout(self.source())
        widths = [site.width for site in self.sites.values()]
        parts = torch.split(values, widths, dim=1)
        return Prompts(
            keys_values={
                at: _keys_values(part, site)
                for (at, site), part in zip(self.sites.items(), parts, strict=True)
            },
            offset=self.offset,
        )

    def counts(self) -> dict[str, int]:
        """Prompt values, and those of the network behind them."""
        total = sum(parameter.numel() for parameter in self.source.parameters())
        prompt = self.source.prompt.numel()
        return {"prompt": prompt, "reparam": total - prompt}


def _keys_values(part: Tensor, site: Site) -> KeysValues:
    """[P, 2 * K * D] -> keys and values, each [1, K, P, D]."""
    shaped = part.view(part.shape[0], 2, site.heads, site.head_size).permute(1, 2, 0, 3)
    return shaped[0][None], shaped[1][None]


def _prompted(options: PTuningV2Options, stacks: Mapping[Stack, int]) -> Mapping[Stack, int]:
    """The stacks that get prompts, and their layers.

    Raises:
        ValueError: the model has no such stack.
    """
    if options.sites == "all":
        return stacks
    if "self" in stacks:
        raise ValueError(
            f"sites: {options.sites} is for encoder-decoders, this backbone has one stack"
        )
    if options.sites not in stacks:
        raise ValueError(
            f"sites: {options.sites} is never reached: a head that reads the text's own tokens "
            "runs the encoder alone"
        )
    return {options.sites: stacks[options.sites]}


def _layers(
    options: PTuningV2Options, prompted: Mapping[Stack, int]
) -> dict[Stack, tuple[int, ...]]:
    """The layers of each stack that get prompts, from 0.

    Raises:
        ValueError: a stack has no such layer.
    """
    return {stack: parse_layers(options.layers, count) for stack, count in prompted.items()}


def _chosen(options: PTuningV2Options, sites: Sequence[Site]) -> dict[int, Site]:
    """The sites that get prompts, by their number."""
    stacks = Counter(site.stack for site in sites)
    layers = _layers(options, _prompted(options, stacks))
    return {at: site for at, site in enumerate(sites) if site.layer in layers.get(site.stack, ())}
