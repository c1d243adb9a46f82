"""The range test: a few steps with a rising learning rate, then everything is restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ptv2_cli.multiplex import Sharing
from ptv2_cli.training.checkpoint import Checkpoint
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import train_batch
from ptv2_cli.training.lr_curve import RangeTest, rates_around

BLOWN_UP = 4.0
"""The test ends at this multiple of the first loss: higher rates only make it worse."""

Tick = Callable[[int], None]


def range_test(
    lane: Lane, default: float, peaks: Callable[[float], Sequence[float]], tick: Tick
) -> RangeTest:
    """Train with a rising learning rate, then restore everything bit for bit.

    Args:
        lane: a run before its first step. The test uses its first batches, which have only train
            rows; if there are too few, it repeats them, as the run's epochs do.
        default: the rate in the middle of the range.
        peaks: learning rate -> the rates of the optimizer's groups.
        tick: called with 1 after every step; it may raise an error to stop the test.
    """
    devices = [lane.device] if lane.device.type == "cuda" else []
    tensors, state = lane.state()
    before = Checkpoint({name: value.clone() for name, value in tensors.items()}, state)
    schedule, lane.schedule = lane.schedule, lambda step: 1.0
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(lane.dropout_seed)
            rates = rates_around(default)
            losses = list(_losses(lane, rates, peaks, tick))
    finally:
        lane.restore(before, Path("range test"), alone=False)
        lane.optimizer.zero_grad(set_to_none=True)
        lane.schedule = schedule
    return RangeTest(default, tuple(rates), tuple(losses))


def _losses(
    lane: Lane, rates: Sequence[float], peaks: Callable[[float], Sequence[float]], tick: Tick
) -> Iterator[float]:
    """The loss after a step at each rate, until it is not finite or above BLOWN_UP."""
    first: float | None = None
    for rate in (*rates, rates[-1]):
        for group, peak in zip(lane.optimizer.param_groups, peaks(rate), strict=True):
            group["peak_lr"] = peak
        steps: list[Any] = []
        while not steps:
            steps = train_batch([lane], Sharing())
        loss = float(steps[0][1].loss)
        if not math.isfinite(loss):
            return
        if first is None:
            first = loss
        else:
            yield loss
            tick(1)
            if loss > BLOWN_UP * max(first, 1.0):
                return
