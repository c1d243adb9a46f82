"""The loss of answers, made for some positions at a time: that of all logits at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ptv2_cli.heads import generation
from ptv2_cli.heads.generation import mean_loss

WORDS, SIZE = 50, 8


@pytest.fixture
def layer() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Linear(SIZE, WORDS)


def inputs(count: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(3)
    states = torch.randn(count, SIZE, generator=source).requires_grad_()
    return states, torch.randint(0, WORDS, (count,), generator=source)


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 7, 100])
def test_values_and_gradients_of_whole_logits(
    layer: nn.Linear, monkeypatch: pytest.MonkeyPatch, rows: int, trains: bool
) -> None:
    """`rows` positions stand in memory at once, of 22."""
    monkeypatch.setattr(generation, "CHUNK_BYTES", 4 * WORDS * rows)
    seen: list[int] = []

    def logits(states: Tensor) -> Tensor:
        seen.append(len(states))
        result: Tensor = layer(states)
        return result

    layer.requires_grad_(trains)
    parameters = list(layer.parameters()) if trains else []
    states, targets = inputs(22)
    mean, each = mean_loss(states, targets, logits, WORDS, parameters)
    found = torch.autograd.grad(3 * mean, [states, *parameters])
    whole = F.cross_entropy(layer(states), targets, reduction="none")
    wanted = torch.autograd.grad(3 * whole.mean(), [states, *parameters])
    assert max(seen) <= rows
    assert sum(seen) == 22
    assert torch.allclose(each, whole, atol=1e-6)
    assert torch.allclose(mean, whole.mean(), atol=1e-6)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert not each.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_without_gradients(layer: nn.Linear, mode: type) -> None:
    states, targets = inputs(5)
    with mode():
        mean, each = mean_loss(states, targets, layer, WORDS, list(layer.parameters()))
    assert mean.grad_fn is None
    assert torch.allclose(each, F.cross_entropy(layer(states), targets, reduction="none"))


def test_a_head_in_half_precision_counts_in_fp32(layer: nn.Linear) -> None:
    states, targets = inputs(6)
    mean, _ = mean_loss(states.bfloat16(), targets, layer.bfloat16(), WORDS)
    assert mean.dtype == torch.float32
