"""A step never waits for the device: between two checks of the loss nothing reads a tensor.

On the CPU the steps run on torch's meta device, whose tensors have no values: whatever would wait
for a GPU (`item`, `bool`, `float`, `tolist`, `cpu`, `numpy`, `nonzero`, indexing by a mask) is an
error there. On a GPU the same steps run under `torch.cuda.set_sync_debug_mode("error")`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.optim import AdamW
from torch.utils._python_dispatch import TorchDispatchMode

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.inputs.features import Feature
from ptv2_cli.learner import Learner
from ptv2_cli.multiplex import Sharing
from ptv2_cli.rng import SeededDropout
from ptv2_cli.training import optim
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.lane import FINITE_EVERY, Lane
from ptv2_cli.training.loop import train_batch

META = torch.device("meta")
LENGTHS = (9, 5, 7, 7, 4, 4, 8, 6)
KINDS: dict[str, Callable[[int], Any]] = {
    "sequence": lambda length: length % 3,
    "regression": float,
    "choice": lambda length: length % 2,
    "token": lambda length: [at % 3 for at in range(length)],
    "span": lambda length: (1, length - 1),
}
"""The label of a row of a length."""
METHODS: dict[str, dict[str, Any]] = {
    "ptuning_v2": {"dropout": 0.1},
    "prompt_tuning": {},
    "head_only": {},
    "finetune": {},
}
REGISTERED = sorted(name for name in tiny.CONFIGS if FAMILIES[name].registry)


class _NoWaitingCopies(TorchDispatchMode):
    """Refuses copies from the CPU that the host would wait for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default:
            device = kwargs.get("device") or args[0].device
            if args[0].device.type == "cpu" and device.type != "cpu":
                assert kwargs.get("non_blocking"), "a copy to the device that waits for it"
        return func(*args, **kwargs)


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Train on the meta device, which has no autocast, no generator and no fused AdamW."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    monkeypatch.setattr(SeededDropout, "_source", lambda self, device: None)
    monkeypatch.setattr(optim, "AdamW", lambda groups, fused: AdamW(groups, foreach=True))
    return META


def features(kind: str) -> list[Feature]:
    """Rows of unequal length, with labels of the kind."""
    rows = []
    for row, length in enumerate(LENGTHS):
        text = partial(Feature, row, list(range(5, 5 + length)))
        choices = (text(), text()) if kind == "choice" else None
        rows.append(text(label=KINDS[kind](length), choices=choices))
    return rows


def new_lane(learner: Learner, kind: str, device: torch.device, seed: int = 0) -> Lane:
    """A lane of two batches of four rows an epoch; no check of its loss is due."""
    rates = optim.LearningRates(1e-3, 1e-3, 1e-5)
    learner.to(device)
    return Lane(
        learner=learner,
        batches=BatchPlan(features(kind), 4, 1, seed, 0, kind),
        optimizer=optim.build_optimizer(learner, rates, 0.01),
        schedule=optim.build_schedule("linear", FINITE_EVERY, 0.1, 2),
        steps=FINITE_EVERY,
        eval_every=FINITE_EVERY,
        device=device,
        clip=1.0,
        step=1,
    )


def take_steps(lanes: Sequence[Lane]) -> None:
    """Steps between two checks, with what the loop asks of every lane before each."""
    with _NoWaitingCopies():
        for _ in range(3):
            assert len(train_batch(lanes, Sharing())) == len(lanes)
            assert [lane.end() for lane in lanes] == [None] * len(lanes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_head_and_method(
    folder_of: Callable[..., Path], meta: torch.device, method: str, kind: str
) -> None:
    backbone = tiny.load(folder_of("bert"), dropout=0.1 if method != "finetune" else "off")
    learner = tiny.make_learner(backbone, method=method, kind=kind, **METHODS[method])
    take_steps([new_lane(learner, kind, meta)])


@pytest.mark.parametrize("family", REGISTERED)
def test_every_family(folder_of: Callable[..., Path], meta: torch.device, family: str) -> None:
    backbone = tiny.load(folder_of(family), dropout=0.1)
    take_steps([new_lane(tiny.make_learner(backbone), "sequence", meta)])


@pytest.mark.parametrize("method", ["ptuning_v2", "prompt_tuning"])
def test_lanes_of_unequal_prompts(
    folder_of: Callable[..., Path], meta: torch.device, method: str
) -> None:
    backbone = tiny.load(folder_of("bert"), dropout=0.1)
    learners = [tiny.make_learner(backbone.view(), method, 2 + seed) for seed in range(3)]
    take_steps([new_lane(one, "sequence", meta, seed) for seed, one in enumerate(learners)])


def test_recomputed_activations(folder_of: Callable[..., Path], meta: torch.device) -> None:
    backbone = tiny.load(folder_of("bert"))
    backbone.checkpoint_gradients()
    take_steps([new_lane(tiny.make_learner(backbone), "sequence", meta)])


def test_a_check_reads_the_loss(folder_of: Callable[..., Path], meta: torch.device) -> None:
    lane = new_lane(tiny.make_learner(tiny.load(folder_of("bert"))), "sequence", meta)
    lane.step = FINITE_EVERY - 1
    with pytest.raises(RuntimeError, match="meta"):
        take_steps([lane])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu(folder_of: Callable[..., Path], method: str, kind: str) -> None:
    device = torch.device("cuda")
    backbone = tiny.load(folder_of("bert"), dropout=0.1 if method != "finetune" else "off")
    learner = tiny.make_learner(backbone, method=method, kind=kind, **METHODS[method])
    lane = new_lane(learner, kind, device)
    train_batch([lane], Sharing())  # the first step sets up the optimizer and the kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        take_steps([lane])
    finally:
        torch.cuda.set_sync_debug_mode("default")
