"""The only place where names become objects: tokenizer, backbone, method, head."""

from __future__ import annotations

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.compiling import compile_layers
from ptv2_cli.backbones.language.language_model import LanguageModel
from ptv2_cli.backbones.language.lm_head import LanguageHead, Vocabulary
from ptv2_cli.backbones.layer_parts import layer_parts
from ptv2_cli.backbones.load import (
    draw_untrained,
    load_backbone,
    load_language_model,
    load_with_language,
)
from ptv2_cli.errors import ConfigError
from ptv2_cli.heads.base import Head, HeadContext, MultiHead
from ptv2_cli.learner import Learner
from ptv2_cli.methods.base import Context, Method
from ptv2_cli.registry import HEADS
from ptv2_cli.rng import generator
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.rows.encoding import EncodedData, label_tokens
from ptv2_cli.runs.warm_start import trained_prompt
from ptv2_cli.tasks.base import Task
from ptv2_cli.training.optim import LearningRates


def load_for(resolved: ResolvedConfig, device: torch.device, *, on_paper: bool = False) -> Backbone:
    """The backbone that a config names, loaded and probed; see load_backbone."""
    init = generator(resolved.config.train.seed, "init/backbone")
    section = resolved.config.backbone
    backbone = load_backbone(resolved.located, section, init, device, on_paper=on_paper)
    return _held(resolved, backbone)


def _held(resolved: ResolvedConfig, backbone: Backbone) -> Backbone:
    """The backbone with its frozen weights in the type that is computed in."""
    if resolved.config.train.precision == "bf16" and not resolved.method.changes_backbone:
        backbone.hold_in(torch.bfloat16)
    return backbone


def _held_after(resolved: ResolvedConfig, backbone: Backbone) -> None:
    """The same for what a method that changes the backbone has left frozen."""
    method = resolved.method
    changed = method.changes_backbone and not method.trains_backbone
    if resolved.config.train.precision == "bf16" and changed:
        backbone.hold_in(torch.bfloat16)


def build_learner(
    resolved: ResolvedConfig,
    data: EncodedData,
    device: torch.device,
    shared: Backbone | None = None,
    *,
    on_paper: bool = False,
) -> Learner:
    """Load, probe and assemble; all initial values come from the config's seed.

    Quantized weights are made on `device`, the rest waits on the CPU to be moved there. `shared`
    is a view of a backbone that is loaded already, to be taken in place of a new one. `on_paper`:
    see load_backbone.

    Raises:
        BackboneError: the weights are missing or the prompts would do nothing.
        ConfigError: `head.pooling: pooler` and the backbone has none, or a quantization that the
            device cannot do.
    """
    config = resolved.config
    seed = config.train.seed
    init = generator(seed, "init/backbone")
    language: LanguageHead | LanguageModel | None = None
    if resolved.task.kind_spec.writes:
        backbone, language = load_language_model(
            resolved.located, config.backbone, init, device, on_paper=on_paper
        )
        _held(resolved, backbone)
        if config.train.precision == "bf16" and not resolved.method.trains_backbone:
            language.hold_in(torch.bfloat16)
    elif resolved.verbalizes:
        words = label_tokens(resolved, data.encoder)
        backbone, language = load_with_language(
            resolved.located, config.backbone, init, words, device, on_paper=on_paper
        )
        _held(resolved, backbone)
    elif shared is None:
        backbone = load_for(resolved, device, on_paper=on_paper)
    else:
        backbone = shared
        draw_untrained(backbone, init)  # by this run's seed, whoever loaded it
    if config.head.pooling != "pooler":
        backbone.drop_pooler()
    elif backbone.pooler is None:
        raise ConfigError.at(
            "head.pooling",
            f"{config.backbone.name} has no pooler",
            "write head: {pooling: cls}, or mean",
        )
    if not resolved.task.kind_spec.decodes:
        backbone.drop_decoder()
    if config.train.gradient_checkpointing:
        backbone.checkpoint_gradients()
    # Modules draw values from the global generator that ours replace; it is not ours to advance.
    with torch.random.fork_rng(devices=[]):
        method = _method(resolved, backbone, data)
        _held_after(resolved, backbone)
        learner = Learner(backbone, method, _head(resolved, backbone, language))
    if config.train.compile:
        compile_layers(backbone)
    return learner


def learning_rates(resolved: ResolvedConfig, method: Method, peak: float) -> LearningRates:
    """Learning rates at `peak`: the head's and the backbone's own where they have one."""
    head = resolved.config.head
    return LearningRates(method=peak, head=head.lr or peak, backbone=method.backbone_lr or peak)


def _method(resolved: ResolvedConfig, backbone: Backbone, data: EncodedData) -> Method:
    tokenizer = data.encoder.tokenizer
    seed = resolved.config.train.seed
    context = Context(
        prompt_len=resolved.config.prompt_len or 0,
        sites=backbone.sites,
        model=backbone.model,
        hidden_size=backbone.shape.hidden_size,
        dropout=backbone.dropout,
        word_embeddings=backbone.word_embeddings,
        label_pieces=[
            tokenizer(label.replace("_", " "), add_special_tokens=False)["input_ids"]
            for label in resolved.task.labels
        ],
        seed=seed,
        init=generator(seed, "init/method"),
        vocabulary=Vocabulary(tokenizer),
        read=lambda ids: backbone.read(
            torch.tensor([list(ids)], device=backbone.word_embeddings.device)
        ),
        parts=lambda: layer_parts(backbone),
        train_inputs=lambda: data.features("train").ids,
        trained=lambda folder: trained_prompt(folder, resolved, context),
    )
    method = resolved.method.build(context)
    method.inside_attention = resolved.method.inside_attention
    return method


def _head(
    resolved: ResolvedConfig, backbone: Backbone, language: LanguageHead | LanguageModel | None
) -> Head | MultiHead:
    """The task's head; one for each where several tasks train together."""
    parts = resolved.task.parts
    if not parts:
        return _head_of(resolved, resolved.task, backbone, "init/head", language)
    return MultiHead(
        _head_of(resolved, part, backbone, f"init/head/{number}")
        for number, part in enumerate(parts)
    )


def _trains(resolved: ResolvedConfig) -> bool:
    """Whether the head trains: one that comes with the backbone is frozen as that is."""
    if resolved.task.kind_spec.writes:
        return resolved.method.trains_backbone
    return resolved.config.head.train if resolved.verbalizes else True


def _head_of(
    resolved: ResolvedConfig,
    task: Task,
    backbone: Backbone,
    purpose: str,
    language: LanguageHead | LanguageModel | None = None,
) -> Head:
    config = resolved.config
    dropout = backbone.dropout if config.head.dropout is None else config.head.dropout
    context = HeadContext(
        hidden_size=backbone.shape.hidden_size,
        classes=len(task.labels),
        dropout=0.0 if dropout == "off" else dropout,
        pooling=config.head.pooling or backbone.shape.family.pooling,
        pooler=backbone.pool,
        seed=config.train.seed,
        init=generator(config.train.seed, purpose),
        language=language,
        trains=_trains(resolved),
    )
    head: Head = HEADS.load(config.head.name or task.kind_spec.head_name)(context)
    return head
