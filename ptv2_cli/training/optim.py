"""AdamW with a learning rate for each part that trains, its schedules, clipping and steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ptv2_cli.distributed.group import ProcessGroup
from ptv2_cli.distributed.shard import is_shared, part_of, plain_beside_shared
from ptv2_cli.learner import Learner

EPOCH_DECAY = 0.95
"""Factor per epoch of the exponential schedule, as in P-tuning v2's NER, SRL and QA runs."""


@dataclass(frozen=True)
class LearningRates:
    """Peak learning rates by part."""

    method: float
    head: float
    backbone: float


def build_optimizer(learner: Learner, rates: LearningRates, weight_decay: float) -> Optimizer:
    """AdamW with a parameter group for each part and for each factor on the method's rate.

    Parameters with one dimension, such as biases and norms, have no weight decay.
    """
    factors = learner.method.rate_factors()
    groups: list[dict[str, Any]] = []
    for part, rate in (
        ("method", rates.method),
        ("head", rates.head),
        ("backbone", rates.backbone),
    ):
        parameters = list(learner.own_parameters(part))
        for decayed in (True, False):
            chosen = [p for p in parameters if _decays(p) == decayed]
            decay = weight_decay if decayed else 0.0
            for factor in dict.fromkeys(factors.get(p, 1.0) for p in chosen):
                own = [p for p in chosen if factors.get(p, 1.0) == factor]
                peak = rate * factor
                groups.append({"params": own, "lr": peak, "peak_lr": peak, "weight_decay": decay})
    if not groups:  # nothing trains, but AdamW needs a group
        groups = [{"params": [], "lr": 0.0, "peak_lr": 0.0, "weight_decay": 0.0}]
    return AdamW(groups, fused=True)


def _decays(parameter: nn.Parameter) -> bool:
    return parameter.dim() > 1


Schedule = Callable[[int], float]
"""Factor on the peak learning rates for step 0, 1, ..."""


def build_schedule(
    kind: Literal["linear", "cosine", "constant", "exponential"],
    steps: int,
    warmup: float,
    steps_per_epoch: int,
) -> Schedule:
    """The schedule `kind`; `warmup` is a share of all steps.

    Let s be the completed share of the steps after the warm-up. linear is 1 - s, and cosine is
    (1 + cos(pi s)) / 2: half a period without restarts, equation 5 of arXiv 1608.03983 with a
    minimum of 0. With n steps both reach 0 only at step n, which the run does not take.
    """
    warm = round(warmup * steps)

    def scale(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        left = max(0.0, (steps - step) / max(1, steps - warm))
        if kind == "linear":
            return left
        if kind == "cosine":
            return (1 - math.cos(math.pi * left)) / 2
        if kind == "exponential":
            return float(EPOCH_DECAY ** (step // steps_per_epoch))
        return 1.0

    return scale


def set_rates(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to its peak times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def trained_values(optimizer: Optimizer) -> list[Tensor]:
    """All tensors that the optimizer changes."""
    return [value for group in optimizer.param_groups for value in group["params"]]


def clip_gradients(optimizer: Optimizer, largest: float | None, group: ProcessGroup) -> None:
    """Scale all gradients together so that their norm is at most `largest`; None: leave them.

    Of weights that the processes share each adds the squares of its part to the norm.
    """
    if largest is None:
        return
    values = trained_values(optimizer)
    if not any(is_shared(value) for value in values):
        nn.utils.clip_grad_norm_(values, largest)
        return
    gradients = [value.grad for value in values if value.grad is not None]
    parts = [part_of(gradient) for gradient in gradients if is_shared(gradient)]
    whole = [gradient for gradient in gradients if not is_shared(gradient)]
    squares = nn.utils.get_total_norm(parts).square().to(whole[0].device)
    group.sum([squares])
    norm = (nn.utils.get_total_norm(whole).square() + squares).sqrt()
    factor = torch.clamp(largest / (norm + 1e-6), max=1.0)  # as in clip_grad_norm_
    for gradient in (*whole, *parts):
        gradient.mul_(factor.to(gradient.device))


def take_step(optimizer: Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Move the weights, whole ones and parts of those that processes share."""
    with plain_beside_shared(any(is_shared(value) for value in trained_values(optimizer))):
        scaler.step(optimizer)
    scaler.update()
