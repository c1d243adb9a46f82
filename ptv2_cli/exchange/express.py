"""A run's prompt in PEFT's words, or why PEFT has none for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ptv2_cli.errors import Problem, RunError
from ptv2_cli.exchange.cache import TOLERANCE, cache_difference, flattened
from ptv2_cli.exchange.opened import FinishedRun
from ptv2_cli.exchange.stock import takes_prefix, task_type_of, window_of
from ptv2_cli.methods.layers import parse_layers
from ptv2_cli.run.session import Session

_NO_ADAPTER = {
    "ptuning_v1": "PEFT puts prompt vectors before the text, not at the places of a template",
    "finetune": "fine-tuning changed the whole backbone: there is no prompt to export",
    "head_only": "a head alone is no adapter: there is no prompt to export",
}


@dataclass(frozen=True)
class Adapter:
    """A prompt in PEFT's words."""

    prompt: Tensor
    """[P, L * 2 * K * D] keys and values, or [P, E] vectors."""
    config: dict[str, Any]
    """Of adapter_config.json, what the prompt alone tells."""
    in_input: bool
    """Whether the prompt takes up positions of the text."""


def obstacles(run: FinishedRun) -> Iterator[Problem]:
    """Why PEFT cannot express a run, as far as its config tells."""
    recipe = run.recipe
    where = str(run.directory.path)
    hint = "train such a run anew, or keep it with ptv2: ptv2 predict"
    name, options = recipe.config.method.name, recipe.method_options
    if name in _NO_ADAPTER:
        yield Problem(where, f"method {name}: {_NO_ADAPTER[name]}", hint)
        return
    if task_type_of(recipe.task.kind) is None:
        yield Problem(where, f"PEFT has no place for a {recipe.task.kind} head", hint)
    if recipe.located.config.get("is_encoder_decoder"):
        what = (
            "an encoder-decoder: PEFT has one prompt for both stacks, and no head that reads the "
            "decoder's first position"
        )
        yield Problem(where, what, hint)
        return
    if getattr(options, "position_offset", "shift") == "keep":
        what = (
            "position_offset: keep: PEFT's prefix is a past of the text, whose positions begin "
            "after it (shift); the logits would not be those of the run"
        )
        yield Problem(where, what, "train it with --set method.position_offset=shift")
    layers = getattr(options, "layers", None)
    if layers is not None and len(parse_layers(layers, recipe.shape.layers)) < recipe.shape.layers:
        what = f"layers: {layers}: PEFT has a prefix for every layer, and no way to leave one out"
        yield Problem(where, what, "train it with --unset method.layers")
    if getattr(options, "place", None) == "after_cls":
        what = "place: after_cls: PEFT puts prompt vectors before everything, the first token too"
        yield Problem(where, what, "train it with --set method.place=before_cls")


def express(run: FinishedRun, session: Session) -> Adapter:
    """The prompt of a run that has no obstacles.

    Raises:
        RunError: the backbone takes it in another way than PEFT gives it.
    """
    prefix = run.recipe.config.method.name == "ptuning_v2"
    return _prefix(run, session) if prefix else _vectors(session)


def refused(run: FinishedRun, what: str) -> RunError:
    """A run that cannot be exported, and what it is still good for."""
    return RunError.at(str(run.directory.path), what, "ptv2 predict and ptv2 eval use it as it is")


def _prefix(run: FinishedRun, session: Session) -> Adapter:
    """Keys and values of all layers; PEFT keeps them without the network that made them."""
    backbone = session.learner.backbone
    with torch.no_grad():
        prompts = session.learner.method()
    sites = {(site.heads, site.head_size) for site in backbone.sites}
    family = backbone.shape.family.name
    if not takes_prefix(backbone.model):
        raise refused(
            run,
            f"{family} models take no past keys and values, which is what a PEFT prefix is",
        )
    if len(sites) != 1:
        raise refused(run, f"the layers of this {family} model differ, PEFT's prefixes do not")
    _check_window(run, window_of(backbone.model.config))
    difference = cache_difference(backbone, prompts)
    if not difference < TOLERANCE:
        raise refused(
            run,
            f"{family} does not take a prefix from its cache as PEFT gives it: hidden states "
            f"would be off by {difference:.1%}",
        )
    ((heads, size),) = sites
    assert prompts.keys_values is not None
    flat = flattened(prompts.keys_values)
    config = {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": len(flat),
        "num_layers": len(backbone.sites),
        "num_attention_heads": heads,
        "token_dim": heads * size,
        "encoder_hidden_size": heads * size,
        "prefix_projection": False,
        "num_transformer_submodules": 1,
    }
    return Adapter(flat, config, in_input=False)


def _check_window(run: FinishedRun, window: int | None) -> None:
    """PEFT's prefix slides out of a window that ours is always in."""
    config = run.recipe.config
    used = (config.prompt_len or 0) + (config.task.max_len or 0)
    if window is not None and window < used:
        raise refused(
            run,
            f"the model's layers see {window} tokens back, prompt and text are up to {used}: a "
            "PEFT prefix slides out of their sight, ours does not",
        )


def _vectors(session: Session) -> Adapter:
    """Vectors beside the word embeddings, before the first token."""
    with torch.no_grad():
        inputs = session.learner.method().inputs
    assert inputs is not None
    length, size = inputs.vectors.shape
    shape = session.learner.backbone.shape
    config = {
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": length,
        "num_layers": shape.layers,
        "token_dim": size,
        "num_transformer_submodules": 1,
        "num_attention_heads": session.learner.backbone.sites[0].heads,
        "prompt_tuning_init": "RANDOM",
    }
    return Adapter(inputs.vectors, config, in_input=True)
