"""What `gpu.py` measures: each function builds a side on the device and gives its step.

Weights are random, made on the device from a config; nothing is read or downloaded. A step is what
a training loop does for one batch: forward, backward, clipping (not the floor) and AdamW.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ptv2_cli.backbones.attention import NAME
from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.backbones.compiling import compile_layers
from ptv2_cli.backbones.families import set_dropout, shape_of
from ptv2_cli.backbones.frozen_cache.lower_layers import LowerStates
from ptv2_cli.backbones.probe import find_sites
from ptv2_cli.backbones.quantize import quantize
from ptv2_cli.heads.base import HeadContext
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.inputs.features import Feature
from ptv2_cli.inputs.ragged import Ragged
from ptv2_cli.learner import Learner
from ptv2_cli.methods.base import Context
from ptv2_cli.multiplex import Sharing
from ptv2_cli.registry import HEADS, METHODS
from ptv2_cli.rng import SeededDropout, generator
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import autocast, train_batch
from ptv2_cli.training.optim import (
    LearningRates,
    build_optimizer,
    build_schedule,
    clip_gradients,
)

NEVER = 10**6
"""Steps of a lane: more than are ever taken."""
BATCHES = 4
"""Batches of an epoch."""
RATES = LearningRates(method=5e-3, head=5e-3, backbone=2e-5)
Step = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """The model, the batches and the device of a measurement."""

    family: str
    config: dict[str, Any]
    """Of the model, as transformers names its keys."""
    rows: int
    tokens: int
    prompt_len: int
    device: torch.device
    dropout: bool = True
    """Whether the frozen backbone drops values; families without dropout never do."""

    @property
    def layers(self) -> int:
        """L"""
        return int(self.config["num_hidden_layers"])

    def model_config(self) -> Any:
        """The config of transformers."""
        config = transformers.AutoConfig.for_model(
            self.family, **self.config, pad_token_id=0, num_labels=2
        )
        set_dropout(config, None if self.dropout else "off")
        return config


def new_model(setting: Setting, kind: Any, **options: Any) -> Any:
    """A random model on the device, in bf16."""
    with torch.device(setting.device):
        model = kind.from_config(setting.model_config(), dtype=torch.bfloat16, **options)
    return model.to(setting.device)


def new_backbone(setting: Setting) -> Backbone:
    """A frozen backbone whose attention takes prompts."""
    model = new_model(setting, transformers.AutoModel, attn_implementation=NAME)
    shape = shape_of(setting.family, model.config.to_dict())
    dropout = getattr(model.config, "hidden_dropout_prob", 0.0)
    backbone = Backbone(model, shape, dropout)
    backbone.drop_pooler()
    backbone.requires_grad_(False)
    backbone.set_sites(find_sites(backbone))
    return backbone


def new_lane(
    setting: Setting, backbone: Backbone, seed: int = 11, method: str = "ptuning_v2", **options: Any
) -> Lane:
    """What trains a method on rows that fill every token."""
    context = Context(
        prompt_len=setting.prompt_len,
        sites=backbone.sites,
        model=backbone.model,
        hidden_size=backbone.shape.hidden_size,
        dropout=backbone.dropout,
        word_embeddings=backbone.word_embeddings,
        label_pieces=[],
        seed=seed,
        init=generator(seed, "init/method"),
        vocabulary=None,  # type: ignore[arg-type]
        read=lambda ids: [],
        parts=lambda: (),
        train_inputs=lambda: Ragged.of([]),
        trained=lambda folder: {},
    )
    head = HeadContext(
        hidden_size=backbone.shape.hidden_size,
        classes=2,
        dropout=backbone.dropout,
        pooling="last" if backbone.shape.family.causal else "cls",
        pooler=backbone.pool,
        seed=seed,
        init=generator(seed, "init/head"),
    )
    built = METHODS.load(method).model_validate(options).build(context)
    learner = Learner(backbone, built, HEADS.load("sequence")(head)).to(setting.device)
    return Lane(
        learner=learner,
        batches=BatchPlan(features(setting), setting.rows, 1, seed, 0, "sequence"),
        optimizer=build_optimizer(learner, RATES, 0.01),
        schedule=build_schedule("constant", NEVER, 0.0, BATCHES),
        steps=NEVER,
        eval_every=NEVER,
        device=setting.device,
        clip=1.0,
        precision="bf16",
    )


def features(setting: Setting) -> list[Feature]:
    """Rows of random tokens in two classes."""
    source = torch.Generator().manual_seed(0)
    size = (setting.rows * BATCHES, setting.tokens)
    ids = torch.randint(5, setting.config["vocab_size"], size, generator=source).tolist()
    return [Feature(row, tokens, label=row % 2) for row, tokens in enumerate(ids)]


def ptv2(setting: Setting, *, compiled: bool = False) -> Step:
    """ptv2's own step: `training.loop.train_batch`."""
    backbone = new_backbone(setting)
    lane = new_lane(setting, backbone)
    if compiled:
        compile_layers(backbone)
    sharing = Sharing()
    return lambda: train_batch([lane], sharing)


def lanes(setting: Setting, count: int) -> Step:
    """One step of several lanes that share the backbone."""
    backbone = new_backbone(setting)
    together = [new_lane(setting, backbone.view(), 11 + at) for at in range(count)]
    sharing = Sharing()
    return lambda: train_batch(together, sharing)


def cached(setting: Setting, *, keep: bool) -> Step:
    """A step with prompts in the upper third of the layers; `keep`: `train.cache: memory`.

    The warm-up must go through all batches once, which fills the cache.
    """
    plain = replace(setting, dropout=False)
    upper = max(1, setting.layers // 3)
    lane = new_lane(plain, new_backbone(plain), layers=f"last:{upper}")
    sharing = Sharing(lower=LowerStates("memory") if keep else None)
    return lambda: train_batch([lane], sharing)


def graphs(setting: Setting) -> Step:
    """ptv2's forward and backward pass replayed as a CUDA graph, one for each length bucket.

    Buckets are all tokens, three quarters and half of them; the graphs share their memory. Clipping
    and AdamW are not part of the graph. What is timed is the longest bucket.

    Raises:
        NotImplementedError: the device is no GPU.
    """
    if setting.device.type != "cuda":
        raise NotImplementedError("CUDA graphs need a GPU")
    lane = new_lane(setting, new_backbone(setting))
    learner = lane.learner.train()
    source = lane.next_batch()
    pool = None
    graph, static = torch.cuda.CUDAGraph(), source
    for width in (setting.tokens, setting.tokens * 3 // 4, setting.tokens // 2):
        batch = _cut(source, width)
        recorded = torch.cuda.CUDAGraph()
        _forward_backward(learner, batch, side_stream=True)
        for module in learner.modules():
            if isinstance(module, SeededDropout):
                recorded.register_generator_state(module._source(setting.device))
        lane.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(recorded, pool=pool):
            _forward_backward(learner, batch)
        pool = pool or recorded.pool()
        if width == setting.tokens:
            graph, static = recorded, batch
            gradients = [(one, one.grad) for one in _trained(learner)]
    for one, gradient in gradients:  # each graph writes into its own
        one.grad = gradient

    def step() -> None:
        following = lane.next_batch()
        static.input_ids.copy_(following.input_ids, non_blocking=True)
        static.attention_mask.copy_(following.attention_mask, non_blocking=True)
        assert static.labels is not None
        assert following.labels is not None
        static.labels.copy_(following.labels, non_blocking=True)
        graph.replay()
        clip_gradients(lane.optimizer, 1.0)
        lane.optimizer.step()

    return step


def _cut(batch: Batch, width: int) -> Batch:
    """The first tokens of each row."""
    parts = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    return replace(batch, **{name: part[:, :width].clone() for name, part in parts.items()})


def _forward_backward(learner: Learner, batch: Batch, *, side_stream: bool = False) -> None:
    """Once, or a few times on a stream of its own, as capturing wants it."""
    if side_stream:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                _forward_backward(learner, batch)
        torch.cuda.current_stream().wait_stream(stream)
        return
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        loss = learner(batch).loss
    loss.backward()


def floor(setting: Setting) -> Step:
    """The stock frozen model without prompts, dropout off; backward goes through all layers.

    The embeddings' output asks for a gradient, so that every layer passes one on, as layers with
    prompts have to.
    """
    model = _classifier(setting).eval().requires_grad_(False)
    head = _head(model).requires_grad_(True).float()

    def require_gradient(module: object, inputs: object, output: Tensor) -> Tensor:
        return output.requires_grad_()

    stack = model.base_model
    entry = getattr(stack, "embeddings", None) or stack.get_input_embeddings()
    entry.register_forward_hook(require_gradient)
    return _stock_step(setting, model, head, 5e-3, clip=False)


def finetuning(setting: Setting) -> Step:
    """The stock model in fp32 with all weights training, bf16 by autocast."""
    model = _classifier(setting).float().train()
    return _stock_step(setting, model, model, 2e-5)


def peft(setting: Setting) -> Step:
    """PEFT's prefix tuning on the frozen model in bf16."""
    from peft import PrefixTuningConfig, get_peft_model

    prefix = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=setting.prompt_len)
    model = get_peft_model(_classifier(setting), prefix).to(setting.device).train()
    return _stock_step(setting, model, model, 5e-3)


def _classifier(setting: Setting) -> Any:
    return new_model(setting, transformers.AutoModelForSequenceClassification)


def _head(model: Any) -> nn.Module:
    head: nn.Module = getattr(model, "classifier", None) or model.score
    return head


def _stock_step(
    setting: Setting, model: Any, trains: nn.Module, rate: float, *, clip: bool = True
) -> Step:
    """A training loop written by hand over the same rows."""
    trained = _trained(trains)
    optimizer = torch.optim.AdamW(trained, lr=rate, fused=True)
    plan = BatchPlan(features(setting), setting.rows, 1, 11, 0, "sequence")
    batches = [plan.collate(rows).to(setting.device) for rows in plan.epoch(0)]
    taken = 0

    def step() -> None:
        nonlocal taken
        batch = batches[taken % len(batches)]
        taken += 1
        with autocast("bf16", setting.device):
            loss = model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels
            ).loss
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [value for value in module.parameters() if value.requires_grad]


def held(setting: Setting, way: str) -> Step:
    """A ptv2 step with the weights held as `way` says: bf16, int8, int4 or fsdp2.

    `fsdp2`: FSDP2 with a group of one process; weights wait in main memory and come to the device
    layer by layer. All recompute activations, as a model that hardly fits does.
    """
    backbone = new_backbone(setting)
    backbone.checkpoint_gradients()
    lane = new_lane(setting, backbone)
    if way in {"int8", "int4"}:
        quantize(backbone.model, way, setting.device, way)  # type: ignore[arg-type]
    if way == "fsdp2":
        _shard(backbone, setting.device)
    sharing = Sharing()
    return lambda: train_batch([lane], sharing)


def _shard(backbone: Backbone, device: torch.device) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard

    from ptv2_cli.backbones.layer_split import layers_with_sites

    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh(device.type, (1,))
    for layer in layers_with_sites(backbone.model):
        fully_shard(layer, mesh=mesh, offload_policy=CPUOffloadPolicy())


def matrix_peak(device: torch.device, side: int) -> float:
    """Operations per second of a square bf16 product, the best of several rounds."""
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    rounds = 10 if device.type == "cuda" else 1
    best = float("inf")
    for _ in range(6):
        began = clock(device)
        for _ in range(rounds):
            one @ one
        best = min(best, (clock(device) - began) / rounds)
    return float(2 * side**3 / best)


def clock(device: torch.device) -> float:
    """Seconds, once all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def weights_of_layers(setting: Setting) -> int:
    """Values of all matrices in the layers, from the config alone."""
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(setting.model_config())
    layers: Sequence[nn.Module] = model.encoder.layer if hasattr(model, "encoder") else model.layers
    return sum(value.numel() for one in layers for value in one.parameters() if value.dim() == 2)
