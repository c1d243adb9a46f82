"""What does not fit the backbone: shape, positions, type of the weights, kept activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ptv2_cli.backbones.families import Shape
from ptv2_cli.backbones.sites import Stack
from ptv2_cli.config.fields import HeldDtype
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.config.suggestions import shown, worded
from ptv2_cli.errors import Fix, Problem
from ptv2_cli.methods.spec import MethodSpec
from ptv2_cli.runs.resolve.config_rules import prompt_length
from ptv2_cli.runs.resolve.generation_rules import generation_misfits
from ptv2_cli.runs.resolve.verbalizer_rules import head_misfits
from ptv2_cli.tasks.base import Task

if TYPE_CHECKING:
    from ptv2_cli.backbones.backbone import Backbone
    from ptv2_cli.backbones.frozen_cache.activation_store import Keep

LEAST_TEXT = 8
"""Tokens, the least that a default `max_len` may leave for text."""
INT4_DTYPE = "bf16"
"""The one type that torchao's int4 layers compute in."""


def backbone_problems(
    loaded: LoadedConfig, method: MethodSpec, task: Task, shape: Shape, dtype: HeldDtype
) -> Iterator[Problem]:
    """What does not fit the backbone, known from the config and config.json alone.

    Args:
        loaded: the config.
        method: with its options.
        task: what the run learns.
        shape: of the backbone.
        dtype: the type of the backbone's weights that `backbone.dtype` stands for.
    """
    yield from _shape_problems(loaded, method, task, shape)
    yield from head_misfits(loaded, method, task, shape)
    taken = 0 if method.in_input else positions_taken(loaded.config, method, task)
    yield from generation_misfits(loaded, task, shape, taken)
    yield from _dtype_problems(loaded, method, dtype)
    yield from _cache_problems(loaded, method, task, shape)
    yield from _compile_problems(loaded, shape)


def _way_out(loaded: LoadedConfig, method: MethodSpec, key: str) -> str:
    """How to return to the default of an option, if it was given."""
    field, given = type(method).model_fields.get(key), loaded.raw.get("method")
    if field is None or not isinstance(given, Mapping) or key not in given or key == "of":
        return "ptv2 list methods shows the options"
    default = shown(field.default)
    value = f" ({default})" if default not in (None, "null") else ""
    argument = loaded.where("method", key).startswith("--")
    return worded(Fix(f"method.{key}", None, after=value), argument)


def _shape_problems(
    loaded: LoadedConfig, method: MethodSpec, task: Task, shape: Shape
) -> Iterator[Problem]:
    """Layers, stacks and positions that the model does not have."""
    config = loaded.config
    for key, what in method.problems(config, shape.prompted(decodes=task.kind_spec.decodes)):
        yield Problem(loaded.where("method", key), what, _way_out(loaded, method, key))
    inside = method.inside_attention
    if inside is not None and not shape.family.registry:
        what = f"{shape.family.name} has an attention of its own, which cannot do this: {inside}"
        hint = "write method: ptuning_v2 without options, or another backbone"
        yield Problem(loaded.where("method"), what, hint)
    if method.causal_option is not None and not shape.family.causal:
        what = f"{method.causal_option} is for causal models, and {shape.family.name} is none"
        where = loaded.where("method", method.causal_option)
        yield Problem(where, what, f"--unset method.{method.causal_option}")
    taken = positions_taken(config, method, task)
    room = shape.max_text(taken)
    where = loaded.where("task", "max_len") if config.task.max_len else loaded.where("prompt_len")
    limit = config.task.max_len or LEAST_TEXT
    if limit > shape.limit:
        yield Problem(
            where,
            f"max_len {limit} is longer than the {shape.limit} positions of {config.backbone.name}",
            _fitting(shape, room),
        )
    elif limit > room:
        keep = "; method.position_offset: keep needs none" if not method.in_input else ""
        yield Problem(
            where,
            f"prompt_len {taken} plus {limit} tokens of text are more than the "
            f"{shape.positions} positions of {config.backbone.name}",
            _fitting(shape, room) + (" or a shorter prompt" if room >= LEAST_TEXT else "") + keep,
        )
    pooling = config.head.pooling
    if shape.family.two_stacks and task.kind_spec.pooled:
        template = method.given_template or ""
        if pooling not in {None, "cls"} or "{mask}" in template:
            yield Problem(
                loaded.where("head", "pooling") if pooling else loaded.where("method"),
                "an encoder-decoder's head reads the decoder's first position, not "
                + (f"pooling: {pooling}" if pooling else "the template's {mask}"),
                "leave head.pooling out, and {mask} out of the template",
            )


def _fitting(shape: Shape, room: int) -> str:
    """What to change where prompt and text are too long: `room` tokens of text fit now."""
    if room >= LEAST_TEXT or shape.positions is None:
        return f"use a max_len of at most {room}"
    return f"use a prompt_len of at most {shape.positions - LEAST_TEXT}, and leave max_len out"


def positions_taken(config: RunConfig, method: MethodSpec, task: Task) -> int:
    """Positions of the backbone that the prompt uses up."""
    if method.takes_positions:
        return prompt_length(config, method, task) or 0
    return 0


def _dtype_problems(
    loaded: LoadedConfig, method: MethodSpec, dtype: HeldDtype
) -> Iterator[Problem]:
    """Weights that cannot be of this type.

    Only a frozen backbone can have fewer bits: the small steps of training would be lost in them.
    """
    section, name = loaded.config.backbone, loaded.config.method.name
    trains = method.trains_backbone
    if trains and dtype != "fp32":
        meant = f"auto (here {dtype})" if section.dtype == "auto" else dtype
        yield Problem(
            loaded.where("backbone", "dtype"),
            f"{name} trains the backbone, and weights that train must be fp32, not {meant}",
            "write dtype: fp32; train.precision: bf16 still computes in bf16",
        )
    if trains and section.quantize is not None:
        yield Problem(
            loaded.where("backbone", "quantize"),
            f"{name} trains the backbone, and quantized weights cannot train",
            "leave quantize out, or choose a method that keeps the backbone frozen",
        )
    if not trains and section.quantize == "int4" and dtype != INT4_DTYPE:
        yield Problem(
            loaded.where("backbone", "quantize"),
            f"int4 layers compute in {INT4_DTYPE}, but the weights are {dtype}",
            f"write dtype: {INT4_DTYPE} beside quantize: int4",
        )
    precision = loaded.config.train.precision
    if {dtype, precision} == {"bf16", "fp16"}:
        yield Problem(
            loaded.where("train", "precision"),
            f"{precision} cannot be mixed with weights in {dtype}",
            f"write precision: {dtype}, or leave precision out",
        )


def _cache_problems(
    loaded: LoadedConfig, method: MethodSpec, task: Task, shape: Shape
) -> Iterator[Problem]:
    """Why `train.cache` can keep nothing."""
    config = loaded.config
    where = loaded.where("train", "cache")
    if config.train.cache is None:
        return
    if config.backbone.dropout != "off":
        yield Problem(
            where,
            "with the backbone's dropout, lower layers compute something else in every epoch: "
            "there is nothing to keep",
            "add backbone: {name: ..., dropout: off}, or leave cache out",
        )
    stacks = shape.prompted(decodes=task.kind_spec.decodes)
    if any(method.problems(config, stacks)):
        return  # another rule reports them
    below, name = method.unprompted_layers(stacks), config.method.name
    if below == 0:
        yield Problem(where, *_nothing_below(name, method, stacks))
    elif below < max(stacks.values()) and not shape.family.parts:
        yield Problem(
            where,
            f"{shape.family.name} layers pass on more than hidden states, so they cannot start "
            "from cached outputs",
            "leave cache out; method: head_only can use it",
        )


def _compile_problems(loaded: LoadedConfig, shape: Shape) -> Iterator[Problem]:
    """Layers that `train.compile` cannot compile."""
    config, where = loaded.config, loaded.where("train", "compile")
    if not config.train.compile:
        return
    if not shape.family.registry:
        what = f"{shape.family.name} layers call their own attention, which cannot be compiled"
        yield Problem(where, what, "leave compile out")
    if config.backbone.quantize is not None:
        what = f"layers with {config.backbone.quantize} weights cannot be compiled"
        yield Problem(where, what, "leave out train.compile or backbone.quantize")


def _nothing_below(name: str, method: MethodSpec, stacks: Mapping[Stack, int]) -> tuple[str, str]:
    """Why no layer computes the same in every epoch, and what to do."""
    if not method.trains:
        return f"{name} trains nothing: no row is read twice", "leave cache out"
    if method.changes_backbone:
        verb = "trains" if method.trains_backbone else "changes"
        what = f"{name} {verb} the backbone: no layer computes the same in every epoch"
        return what, "leave cache out, or choose a method that keeps the backbone frozen"
    if "cross" in stacks:
        what = "an encoder-decoder can keep the outputs of its layers only without a prompt"
        return what, "leave cache out, or write method: head_only"
    return (
        f"{name} changes what the lowest layer computes: there is nothing to keep",
        "leave cache out, or choose upper layers alone: method: {name: ptuning_v2, layers: last:8}",
    )


def require_cache_room(
    keep: Keep, tokens: int, backbone: Backbone, folder: Path | None = None
) -> None:
    """Refuse to keep the lower outputs of all tokens where there is no room for them.

    Args:
        keep: where to keep them.
        tokens: those of all splits that the run reads.
        backbone: for the width and the type of its layers.
        folder: for the file on disk; None: the system's folder for temporary files.

    Raises:
        ConfigError: with the size that they need, and how much is free.
    """
    from ptv2_cli.backbones.frozen_cache.activation_store import needed_bytes, require_space

    # Layers may be wider inside than what the model gives (OPT).
    width = max(int(backbone.model.config.hidden_size), backbone.shape.hidden_size)
    require_space(keep, needed_bytes(tokens, width, backbone.word_embeddings.dtype), folder)
