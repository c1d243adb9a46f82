"""The supported model families, and what config.json says about a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from ptv2_cli.backbones.sites import Stack
from ptv2_cli.config.faults import seen
from ptv2_cli.errors import BackboneError

Positions = Literal["absolute", "padded", "rotary", "relative"]


@dataclass(frozen=True)
class Family:
    """A `model_type` of transformers and how its inputs behave."""

    name: str
    positions: Positions
    """absolute: a table counted from 0; padded: a table counted from padding_idx + 1, over real
    tokens only; rotary: positions rotate queries and keys; relative: only distances between
    tokens count, so a prompt needs no position."""
    pooling: Literal["pooler", "cls", "mean", "last"]
    """Which vector a sequence head reads unless the config says otherwise."""
    causal: bool = False
    two_stacks: bool = False
    """An encoder and a decoder."""
    grouped: bool = False
    """Its checkpoints may have fewer key and value heads than heads."""
    adapter: str | None = None
    """Module of `adapters` for a family that needs more than the attention registry."""
    registry: bool = True
    """Whether the family uses transformers' attention registry."""
    takes_positions: bool = True
    """Whether its forward takes position ids."""
    checkpointing: bool = True
    """Whether transformers can recompute its activations in backward."""
    parts: bool = True
    """Whether a layer needs only hidden states from the layers below."""
    shared_tables: bool = False
    """Whether its layers project a table of relative positions, which belongs to no text."""
    tested: str = "tiny"
    """Size of the largest tested model: tiny has random weights, others are pretrained."""
    note: str = ""
    """A note for users."""

    @property
    def masks(self) -> bool:
        """Whether a head may read the position of a mask token."""
        return not self.causal and not self.two_stacks


_DISTANCES = "the public checkpoints have no table of positions: a prompt needs no position"

FAMILIES = {
    family.name: family
    for family in (
        Family("bert", "absolute", "pooler", tested="22.7 M"),
        Family("roberta", "padded", "cls"),
        Family("xlm-roberta", "padded", "cls"),
        Family("camembert", "padded", "cls"),
        Family("albert", "absolute", "pooler", checkpointing=False),
        Family("electra", "absolute", "cls"),
        Family("distilbert", "absolute", "cls"),
        Family("mpnet", "padded", "cls", adapter="mpnet", registry=False, checkpointing=False),
        Family(
            "deberta",
            "absolute",
            "cls",
            adapter="deberta",
            registry=False,
            shared_tables=True,
            note=_DISTANCES,
        ),
        Family(
            "deberta-v2",
            "absolute",
            "cls",
            adapter="deberta_v2",
            registry=False,
            shared_tables=True,
            note=_DISTANCES,
        ),
        Family("modernbert", "rotary", "cls"),
        Family("eurobert", "rotary", "mean", grouped=True),
        Family(
            "big_bird",
            "absolute",
            "cls",
            adapter="big_bird",
            registry=False,
            note="full attention in place of the sparse form",
        ),
        Family("gpt2", "absolute", "last", causal=True),
        Family("opt", "absolute", "last", causal=True),
        Family(
            "bloom",
            "relative",
            "last",
            causal=True,
            adapter="bloom",
            registry=False,
            takes_positions=False,
        ),
        Family("gpt_neox", "rotary", "last", causal=True),
        Family("llama", "rotary", "last", causal=True, grouped=True, tested="135 M"),
        Family("mistral", "rotary", "last", causal=True, grouped=True),
        Family("qwen2", "rotary", "last", causal=True, grouped=True),
        Family("qwen3", "rotary", "last", causal=True, grouped=True),
        Family("glm", "rotary", "last", causal=True, grouped=True),
        Family("glm4", "rotary", "last", causal=True, grouped=True),
        # The lowest layer makes the position bias of all others.
        Family("t5", "relative", "cls", two_stacks=True, takes_positions=False, parts=False),
        Family("mt5", "relative", "cls", two_stacks=True, takes_positions=False, parts=False),
        Family("bart", "absolute", "cls", two_stacks=True, adapter="bart", takes_positions=False),
    )
}

REFUSED = {
    "fnet": "it mixes tokens by Fourier transforms and has no attention for prompts",
    "reformer": "its attention uses hashed queries as keys, so no other keys can come before them",
    "perceiver": "it reads tokens through latent vectors: no layer attends among tokens",
    "longformer": "its sliding attention accepts no keys except those of the text",
    "mamba": "it is a state space model and has no attention for prompts",
}
"""Known families that cannot work, with the reason."""


@dataclass(frozen=True)
class Shape:
    """What config.json says, before any weights are downloaded."""

    family: Family
    stacks: Mapping[Stack, int]
    """Attention layers of each stack: {self: L}, or encoder, decoder and cross."""
    hidden_size: int
    """Width of the output's hidden states, H."""
    limit: int
    """Most tokens of text: the model's limit, or its length in pretraining without a limit."""
    positions: int | None
    """Size of the position table or of the rotary range; None: a prompt needs no position."""

    @property
    def layers(self) -> int:
        """Layers of the longest stack, L."""
        return max(self.stacks.values())

    def prompted(self, *, decodes: bool) -> Mapping[Stack, int]:
        """The stacks that run: only the encoder, if the head does not read the decoder."""
        if decodes or not self.family.two_stacks:
            return self.stacks
        return {"encoder": self.stacks["encoder"]}

    def max_text(self, taken: int) -> int:
        """Most tokens of text beside a prompt that takes `taken` positions."""
        return self.limit if self.positions is None else min(self.limit, self.positions - taken)


def shape_of(name: str, config: Mapping[str, Any]) -> Shape:
    """Read the shape from a parsed config.json.

    Raises:
        BackboneError: the family is not supported or a size is missing.
    """
    model_type = config.get("model_type", "")
    if not isinstance(model_type, str):
        raise _wrong(name, config, "model_type", "text")
    family = FAMILIES.get(model_type)
    if family is None:
        unknown = f"model type {model_type!r} is unknown: ptv2 cannot tell where prompts enter"
        reason = REFUSED.get(model_type)
        raise BackboneError.at(
            f"backbone {name}",
            f"{model_type} cannot be prompted: {reason}" if reason else unknown,
            f"supported: {', '.join(FAMILIES)} (ptv2 list backbones)",
        )
    limit = _limit(name, family, config)
    tabled = family.positions != "relative" and config.get("position_biased_input", True)
    return Shape(
        family,
        stacks=_stacks(name, family, config),
        hidden_size=_size(name, config, *_WIDTHS),
        limit=limit,
        positions=limit if tabled else None,
    )


_WIDTHS = ("word_embed_proj_dim", "hidden_size", "n_embed", "n_embd", "d_model", "dim")
"""Names of H, the output's first: OPT may be wider inside."""


_DEEPEST = 10_000
"""Most layers: transformers would build any number for hours, and more are a mistake."""


def _stacks(name: str, family: Family, config: Mapping[str, Any]) -> dict[Stack, int]:
    if not family.two_stacks:
        keys = ("num_hidden_layers", "n_layer", "n_layers")
        return {"self": _size(name, config, *keys, most=_DEEPEST)}
    encoder = _size(name, config, "encoder_layers", "num_layers", most=_DEEPEST)
    # T5's oldest files have one number for both.
    twice = ("decoder_layers", "num_decoder_layers")
    decoder = _size(name, config, *twice, default=encoder, most=_DEEPEST)
    return {"encoder": encoder, "decoder": decoder, "cross": decoder}


def _limit(name: str, family: Family, config: Mapping[str, Any]) -> int:
    if family.positions == "relative":
        return _size(name, config, "n_positions", "seq_length", default=TRAINED_LENGTH)
    positions = _size(name, config, "max_position_embeddings", "n_positions")
    if family.positions == "padded":
        return positions - _size(name, config, "pad_token_id", default=1, least=0) - 1
    return positions


TRAINED_LENGTH = 512
"""Tokens of T5's pretraining inputs (arXiv 1910.10683), if config.json has no length."""


def _size(
    name: str,
    config: Mapping[str, Any],
    *keys: str,
    default: int | None = None,
    least: int = 1,
    most: float = inf,
) -> int:
    """The value of the first of the keys that config.json has."""
    key = next((key for key in keys if config.get(key) is not None), None)
    if key is None:
        if default is None:
            raise BackboneError.at(f"backbone {name}", f"config.json has no {' or '.join(keys)}")
        return default
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        span = f"of {least} or more" if most == inf else f"from {least} to {most}"
        raise _wrong(name, config, key, f"a whole number {span}")
    return value


def _wrong(name: str, config: Mapping[str, Any], key: str, wanted: str) -> BackboneError:
    return BackboneError.at(
        f"backbone {name}",
        f"config.json: {key} must be {wanted}, not {seen(config[key], wanted)}",
        "copy config.json again from where the model came from",
    )


COLUMNS = ("family", "sites", "kv heads", "positions", "pooling", "ckpt", "heads", "tested")
MEANINGS = {
    "sites": "the attention that takes prompts; method.sites chooses encoder, decoder or cross",
    "kv heads": "grouped: checkpoints may have fewer key and value heads than query heads",
    "positions": "absolute: a table from 0; padded: a table of real tokens, from padding_idx + 1; "
    "rotary: rotates queries and keys; relative: only distances, a prompt needs no position",
    "pooling": "the vector that sequence, regression and choice heads read by default",
    "ckpt": "train.gradient_checkpointing",
    "heads": "all: sequence, regression, choice, token, span; all*: the first three read the "
    "decoder's first position; token and span run only the encoder",
    "tested": "tiny: a few thousand random weights; a number: pretrained weights of that size",
}
"""What the columns mean."""


def support_rows() -> list[tuple[str, ...]]:
    """A row of COLUMNS for each family."""
    return [_row(family) for family in FAMILIES.values()]


def notes() -> list[tuple[str, str]]:
    """The notes on families."""
    return [(family.name, family.note) for family in FAMILIES.values() if family.note]


def refusals() -> list[tuple[str, str]]:
    """Known families that cannot be prompted, and why."""
    return list(REFUSED.items())


def _row(family: Family) -> tuple[str, ...]:
    return (
        family.name,
        "enc, dec, cross" if family.two_stacks else "self",
        "grouped" if family.grouped else "all",
        family.positions,
        "decoder" if family.two_stacks else family.pooling,
        "yes" if family.checkpointing else "no",
        "all*" if family.two_stacks else "all",
        family.tested,
    )


HIDDEN = (
    "hidden_dropout_prob",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "dropout",
    "dropout_rate",
    "embedding_dropout",
    "mlp_dropout",
)
OTHERS = (
    "attention_probs_dropout_prob",
    "attention_dropout",
    "attn_pdrop",
    "activation_dropout",
    "layerdrop",
    "encoder_layerdrop",
    "decoder_layerdrop",
)
"""Dropout of attention, inside layers, and of whole layers."""


def drops(config: Any) -> bool:
    """Whether any dropout of a transformers config is on."""
    return any(getattr(config, name, None) for name in (*HIDDEN, *OTHERS))


def set_dropout(config: Any, value: float | Literal["off"] | None) -> None:
    """Set the dropout of a transformers config before the model is built from it.

    A number replaces the hidden dropout, as in the published runs; `off` turns off all others
    too; None keeps the model's own values. Eval mode would not do, because transformers
    checkpoints gradients only in training mode.
    """
    if value is None:
        return
    names = (*HIDDEN, *OTHERS) if value == "off" else HIDDEN
    for name in names:
        if hasattr(config, name):
            setattr(config, name, 0.0 if value == "off" else value)


def hidden_dropout(config: Any) -> float:
    """The hidden dropout probability of a transformers config."""
    return next((float(getattr(config, name)) for name in HIDDEN if hasattr(config, name)), 0.0)


def is_silent(config: Any) -> bool:
    """Whether a transformers config has no dropout at all."""
    return not any(getattr(config, name, 0.0) for name in (*HIDDEN, *OTHERS))
