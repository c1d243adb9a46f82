"""Whether `train.cache` can keep anything for a run, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ptv2_cli.backbones.families import Shape
from ptv2_cli.backbones.sites import Stack
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.errors import Problem
from ptv2_cli.inputs.features import Feature
from ptv2_cli.methods.spec import MethodSpec
from ptv2_cli.tasks.base import Task

if TYPE_CHECKING:
    from ptv2_cli.backbones.backbone import Backbone
    from ptv2_cli.backbones.frozen_cache.activation_store import Keep


def cache_problems(
    loaded: LoadedConfig, method: MethodSpec, task: Task, shape: Shape
) -> Iterator[Problem]:
    """What forbids `train.cache`, known from the config and config.json alone."""
    config = loaded.config
    where = loaded.where("train", "cache")
    if config.train.cache is None:
        return
    if config.backbone.dropout != "off":
        yield Problem(
            where,
            "the backbone's dropout makes what lower layers compute differ from epoch to epoch: "
            "there is nothing to keep",
            "add backbone: {name: ..., dropout: off}, or leave cache out",
        )
    stacks = shape.prompted(decodes=task.kind_spec.pooled)
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
            "remove cache; method: head_only can use it",
        )


def _nothing_below(name: str, method: MethodSpec, stacks: Mapping[Stack, int]) -> tuple[str, str]:
    """Why no layer of a run gives the same in every epoch, and what could be done."""
    if not method.trains:
        return f"{name} trains nothing: no row is read twice", "leave cache out"
    if method.changes_backbone:
        what = f"{name} trains the backbone: no layer gives the same in every epoch"
        return what, "leave cache out, or choose a method that keeps the backbone frozen"
    if "cross" in stacks:
        what = "the outputs of an encoder-decoder's layers are kept where it has no prompt at all"
        return what, "leave cache out, or write method: head_only"
    return (
        f"{name} has a prompt at or below the lowest layer: there is nothing to keep",
        "leave cache out, or give prompts to upper layers alone: method: {name: ptuning_v2, "
        "layers: last:8}",
    )


def require_cache_room(
    keep: Keep, features: Sequence[Feature], backbone: Backbone, folder: Path | None = None
) -> None:
    """Refuse to keep the lower outputs of all these features where there is no room for them.

    Args:
        keep: where.
        features: of all splits that the run reads.
        backbone: it says how wide its layers are and of which type.
        folder: where the disk's file is to lie; None: the system's folder for such files.

    Raises:
        ConfigError: it says how much they would take, and how much is free.
    """
    from ptv2_cli.backbones.frozen_cache.activation_store import needed_bytes, require_space

    # Layers may be wider inside than what the model gives (OPT).
    width = max(int(backbone.model.config.hidden_size), backbone.shape.hidden_size)
    require_space(keep, needed_bytes(features, width, backbone.word_embeddings.dtype), folder)
