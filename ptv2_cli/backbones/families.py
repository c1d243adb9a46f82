"""What is known of each model family from its config.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ptv2_cli.errors import BackboneError

Positions = Literal["absolute", "padded", "rotary"]


@dataclass(frozen=True)
class Family:
    """A `model_type` of transformers and how its inputs behave."""

    name: str
    positions: Positions
    """absolute: a table counted from 0; padded: a table counted from padding_idx + 1, over real
    tokens alone; rotary: positions turn queries and keys."""
    pooling: Literal["pooler", "cls", "mean", "last"]
    """Which vector a sequence head reads unless the config says otherwise."""
    causal: bool = False


FAMILIES = {
    family.name: family
    for family in (
        Family("bert", "absolute", "pooler"),
        Family("roberta", "padded", "cls"),
        Family("xlm-roberta", "padded", "cls"),
        Family("albert", "absolute", "pooler"),
        Family("electra", "absolute", "cls"),
        Family("modernbert", "rotary", "cls"),
        Family("gpt2", "absolute", "last", causal=True),
        Family("gpt_neox", "rotary", "last", causal=True),
        Family("llama", "rotary", "last", causal=True),
        Family("qwen3", "rotary", "last", causal=True),
    )
}


@dataclass(frozen=True)
class Shape:
    """What config.json says before any weights are fetched."""

    family: Family
    layers: int
    hidden_size: int
    positions: int
    """Tokens that the position table or the pretrained rotary range allows."""


def shape_of(name: str, config: Mapping[str, Any]) -> Shape:
    """Read the shape out of a parsed config.json.

    Raises:
        BackboneError: the family is not supported or a size is missing.
    """
    model_type = config.get("model_type", "")
    family = FAMILIES.get(model_type)
    if family is None:
        raise BackboneError.at(
            f"backbone {name}",
            f"model type {model_type!r} has no known place where prompts can enter",
            f"supported: {', '.join(FAMILIES)} (ptv2 list backbones)",
        )
    return Shape(
        family,
        layers=_size(name, config, "num_hidden_layers", "n_layer"),
        hidden_size=_size(name, config, "hidden_size", "n_embd"),
        positions=_usable(family, config, _size(name, config, _POSITIONS, "n_positions")),
    )


_POSITIONS = "max_position_embeddings"


def _usable(family: Family, config: Mapping[str, Any], positions: int) -> int:
    if family.positions == "padded":
        return positions - int(config.get("pad_token_id", 1)) - 1
    return positions


def _size(name: str, config: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        if key in config:
            return int(config[key])
    raise BackboneError.at(f"backbone {name}", f"config.json has no {keys[0]}")
