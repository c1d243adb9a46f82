"""The only place where names become objects: tokenizer, backbone, method, head."""

from __future__ import annotations

from typing import Any

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.load import load_backbone
from ptv2_cli.errors import ConfigError
from ptv2_cli.heads.base import Head, HeadContext
from ptv2_cli.methods.base import Context, Method
from ptv2_cli.model import Learner
from ptv2_cli.registry import HEADS
from ptv2_cli.run.recipe import Recipe
from ptv2_cli.seeding import generator
from ptv2_cli.train.optim import LearningRates


def build_learner(recipe: Recipe, tokenizer: Any) -> Learner:
    """Load, probe and assemble; all initial values come from the config's seed.

    Raises:
        BackboneError: the weights are missing or the prompts would do nothing.
        ConfigError: `head.pooling: pooler` and the backbone has none.
    """
    config = recipe.config
    seed = config.train.seed
    backbone = load_backbone(recipe.located, config.backbone, generator(seed, "init/backbone"))
    if config.head.pooling != "pooler":
        backbone.drop_pooler()
    elif backbone.pooler is None:
        raise ConfigError.at(
            "head.pooling",
            f"{config.backbone.name} has no pooler",
            "write head: {pooling: cls}, or mean",
        )
    if config.train.gradient_checkpointing:
        backbone.checkpoint_gradients()
    # Modules draw values from the global generator that ours replace; it is not ours to advance.
    with torch.random.fork_rng(devices=[]):
        method = _method(recipe, backbone, tokenizer)
        return Learner(backbone, method, _head(recipe, backbone))


def learning_rates(recipe: Recipe, method: Method) -> LearningRates:
    """Peak learning rates: the head's and the backbone's own where they have one."""
    train, head = recipe.config.train, recipe.config.head
    assert train.lr is not None
    return LearningRates(
        method=train.lr, head=head.lr or train.lr, backbone=method.backbone_lr or train.lr
    )


def choose_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` names.

    Raises:
        ConfigError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError.at("--device", f"{name!r} is no device", "auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError.at(
            "--device",
            f"{name} is not on this machine: torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices",
            "--device cpu",
        )
    return device


def _method(recipe: Recipe, backbone: Backbone, tokenizer: Any) -> Method:
    seed = recipe.config.train.seed
    context = Context(
        sites=backbone.sites,
        hidden_size=backbone.shape.hidden_size,
        dropout=backbone.dropout,
        word_embeddings=backbone.word_embeddings,
        label_pieces=[
            tokenizer(label.replace("_", " "), add_special_tokens=False)["input_ids"]
            for label in recipe.task.labels
        ],
        seed=seed,
        init=generator(seed, "init/method"),
    )
    return recipe.method(recipe.method_options, recipe.config.prompt_len, context)


def _head(recipe: Recipe, backbone: Backbone) -> Head:
    config = recipe.config
    dropout = backbone.dropout if config.head.dropout is None else config.head.dropout
    context = HeadContext(
        hidden_size=backbone.shape.hidden_size,
        classes=len(recipe.task.labels),
        dropout=0.0 if dropout == "off" else dropout,
        pooling=config.head.pooling or backbone.shape.family.pooling,
        pooler=backbone.pool,
        seed=config.train.seed,
        init=generator(config.train.seed, "init/head"),
    )
    head: Head = HEADS.load(config.head.name or recipe.task.kind)(context)
    return head
