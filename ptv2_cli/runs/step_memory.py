"""The memory of a training step, from a step with tensors that have sizes and no values.

The run's own code builds its model, goes forward with its largest batch, and backward; torch's fake
tensors hold nothing, and a count of the storages that live says how much real ones would take. So
each family, method and head is counted as it computes. No weights are read.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ptv2_cli.backbones.layer_split import layers_with_sites
from ptv2_cli.backbones.quantize import saved_bytes
from ptv2_cli.backbones.quiet import quiet
from ptv2_cli.distributed.shard import shared_values
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.learner import Learner
from ptv2_cli.runs.build import build_learner
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.rows.encoding import EncodedData
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.loop import autocast

FP32 = 4
"""Bytes of a value that trains."""
MOMENTS = 8
"""Bytes of AdamW's two moments for a trained fp32 value."""
MEAN = 4
"""Bytes of `train.average` for a trained value."""
GATHERED = 3
"""Layers that FSDP2 has room for at a time: the present one, the next one, and what comes in."""
REDUCED = 3
"""Layers whose gradients it has room for: the present one, what it sends, and what is under way."""
SLACK = 1.3
"""Factor on what comes and goes in a step: an allocator cannot use all gaps again."""
MOST_ANSWERS = 10_000
"""Questions about values that a step may ask; a few seconds."""


@dataclass(frozen=True)
class StepMemory:
    """The bytes that a training step needs, beyond the libraries and the data."""

    backbone: int
    """The backbone's weights as they are held; with `finetune` they train."""
    trained: int
    """What the optimizer and the average keep of the values that train."""
    step: int
    """The rest at its peak: new parameters, activations, gradients and gathered layers."""
    gathered: int = 0
    """What each of several devices gets from the others in a step, with `train.shard`: weights, and
    gradients of those that train."""
    offloaded: int = 0
    """What each of them keeps in main memory, with `train.cpu_offload`; not in the total."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.backbone + self.trained + self.step


def step_memory(
    resolved: ResolvedConfig, data: EncodedData, device: torch.device, devices: int = 1
) -> StepMemory | None:
    """The memory of a step on each of several devices like `device`; None: it cannot be told.

    It cannot for a model with code of its own, and for code that looks at values in a way that
    has no answer without them.
    """
    if "auto_map" in resolved.located.config:  # its code runs only when the weights are loaded
        return None
    plain = replace(resolved, method=resolved.method.without_init())
    try:
        with quiet():
            return _simulated(plain, data, device, devices)
    except Exception:  # of any type: it is a guess, and the run itself says what is wrong with it
        return None


def _simulated(
    resolved: ResolvedConfig, data: EncodedData, device: torch.device, devices: int
) -> StepMemory:
    train = resolved.config.train
    batch = _largest_batch(resolved, data, devices).to(device)
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    with fakes, LiveBytes() as live:
        with device:  # fake tensors cannot be moved to it afterwards
            learner = build_learner(resolved, data, device, on_paper=True).train()
        dense, held = _weights(resolved, learner)
        trained = sum(value.numel() for value in learner.parameters() if value.requires_grad)
        shared = _shared(learner) if train.shard is not None and devices > 1 else []
        for value in (value for layer in shared for value in layer if value.requires_grad):
            # Each device keeps its part of the gradient, which is counted below.
            value.register_post_accumulate_grad_hook(_drop_gradient)  # type: ignore[no-untyped-call]
        live.start()
        # Gradients wait beside the second batch of a step.
        for _ in range(min(train.accumulate, 2) if trained else 1):
            with autocast(train.precision, device), torch.set_grad_enabled(trained > 0):
                loss = learner(batch).loss
            if trained:
                loss.backward()
            del loss
        peak = live.peak
        if trained and held < dense:
            peak += _largest_layer(learner)
        layers = [sum(value.nbytes for value in layer) for layer in shared] or [0]
        tuned = learner.method.trains_backbone
    others = sum(layers) * (devices - 1) // devices
    step = int(SLACK * (peak - dense)) + GATHERED * max(layers)
    passes = 2 if trained else 1
    states = MOMENTS + (MEAN if train.average is not None else 0)
    part = gradients = sum(layers) - others  # of what devices share
    kept = 0
    if tuned and shared:
        trained -= sum(layers) // FP32
        kept = part // FP32 * states
        step += REDUCED * max(layers)
        passes += 1  # the gradients
    else:
        gradients = 0
    away = 0
    if _offloads(resolved, device):
        away, part, gradients, kept = part + gradients + kept, 0, 0, 0
    return StepMemory(
        backbone=held - sum(layers) + part,
        trained=trained * states + kept,
        step=step + gradients,
        gathered=train.accumulate * passes * others,
        offloaded=away,
    )


def _largest_batch(resolved: ResolvedConfig, data: EncodedData, devices: int) -> Batch:
    """A device's rows of the batch of training that has most tokens."""
    train = resolved.config.train
    plan = BatchPlan(
        features=data.features("train"),
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        seed=train.seed,
        pad_id=data.encoder.pad_id,
        kind=resolved.task.kind,
        tokens=train.batch_tokens,
        prompt=0 if resolved.method.uses_template else resolved.config.prompt_len or 0,
    )
    rows = plan.largest
    return plan.collate(rows[: -(-len(rows) // devices)])


def _offloads(resolved: ResolvedConfig, device: torch.device) -> bool:
    """Whether what devices share is kept in another memory than theirs."""
    return resolved.config.train.cpu_offload and device.type != "cpu"


def _shared(learner: Learner) -> list[list[nn.Parameter]]:
    """The weights of each layer that devices share."""
    shared = shared_values(learner)
    layers = layers_with_sites(learner.backbone.model)
    return [[value for value in layer.parameters() if value in shared] for layer in layers]


def _drop_gradient(value: Tensor) -> None:
    value.grad = None


def _weights(resolved: ResolvedConfig, learner: Learner) -> tuple[int, int]:
    """Bytes of the backbone's weights in the simulation, and as the run holds them."""
    tensors = [*learner.backbone.parameters(), *learner.backbone.buffers()]
    dense = sum({id(each): each.nbytes for each in tensors}.values())
    kind = resolved.config.backbone.quantize
    if kind is None:
        return dense, dense
    return dense, dense - saved_bytes(learner.backbone.model, kind)


def _largest_layer(learner: Learner) -> int:
    """Bytes of the largest dequantized weight: the backward pass makes one at a time."""
    layers = (each for each in learner.backbone.model.modules() if isinstance(each, nn.Linear))
    return max((layer.weight.nbytes for layer in layers), default=0)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the fake storages that are alive, and answers questions about values.

    What is computed from the batch alone is computed, so that masks and targets count as they are.
    Code that asks for a truth value of a fake tensor gets True and False in turn, so that a loop
    that waits for one of them ends. Code that asks for a number gets 1 or 0.0. More than
    `MOST_ANSWERS` questions are an error.

    Attributes:
        now: bytes that are alive.
        peak: the largest `now` since `start`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self._answers = 0
        self._truths = cycle((True, False))
        self._seen: dict[int, int] = {}

    def start(self) -> None:
        """Look for the peak from now on."""
        self.peak = self.now

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.index.Tensor:
            args = (args[0], _chosen(args[1]))
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if tensors and not any(isinstance(each, FakeTensor) for each in tensors):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            self._answers += 1
            if self._answers > MOST_ANSWERS:
                raise RuntimeError("a loop ends only with the values of tensors")
            return self._answer(args[0].dtype)
        result = func(*args, **kwargs)
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, Tensor):
                self._add(each)
        return result

    def _answer(self, dtype: torch.dtype) -> bool | int | float:
        if dtype == torch.bool:
            return next(self._truths)
        return 0.0 if dtype.is_floating_point else 1

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen[key] = size
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._seen.pop(key, 0)


def _chosen(indices: list[Tensor | None]) -> list[Tensor | None]:
    """The indices of `tensor[indices]`; a mask of the batch becomes the positions that it sets."""
    chosen: list[Tensor | None] = []
    for index in indices:
        if index is None or index.dtype != torch.bool or isinstance(index, FakeTensor):
            chosen.append(index)
        else:
            with unset_fake_temporarily():
                chosen += index.nonzero().unbind(1)
    return chosen
