"""Dropout that depends on a trial's seed, step and batch: rate, independence, lanes, families."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import tiny
import torch

from ptv2_cli.backbones.dropout import PassDropout, drop
from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.injection import combined
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.inputs.batch import join_batches
from ptv2_cli.rng import RowDraws

OWN = RowDraws(seed=123, step=7, batch=0, rows=2, width=5)
LAYERDROP = {"opt", "bart"}
"""Their layers read a number of the global generator, which drops whole layers."""


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5, 0.9])
def test_the_rate_is_exact(probability) -> None:
    calls, count = 4, 50_000_000
    with (dropout := PassDropout()).forward([OWN]):
        dropped = sum((~dropout.keep((count,), probability)).sum().item() for _ in range(calls))
    # The standard error of 200 million draws is 4e-5 at most.
    assert abs(dropped / (calls * count) - probability) < 1e-4
    assert abs(round(probability * 65536) / 65536 - probability) < 1e-5


def test_what_stays_is_scaled_so_that_the_mean_stays() -> None:
    with (dropout := PassDropout()).forward([OWN]):
        keep = dropout.keep((1000, 1000), 0.3)
    values = torch.ones(1000, 1000, requires_grad=True)
    dropped = drop(values, keep, 0.3)
    assert dropped.mean().item() == pytest.approx(1, abs=2e-3)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7], rel=1e-4)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped)
    half = drop(torch.ones(1000, 1000, dtype=torch.bfloat16), keep, 0.3)
    assert torch.equal(half, torch.where(keep, 1 / 0.7, 0.0).bfloat16())


def test_layers_steps_batches_and_trials_are_independent() -> None:
    """The correlation of any two is that of independent draws: 1 / sqrt(n), 5 times at most."""
    count = 1_000_000
    sources = {
        "call": (OWN, 1),
        "next call": (OWN, 2),
        "step": (replace(OWN, step=8), 1),
        "batch": (replace(OWN, batch=1), 1),
        "seed": (replace(OWN, seed=124), 1),
        "step and call exchanged": (replace(OWN, step=1), 7),
    }
    bits = {
        name: draws.keep(call, (count,), 32768).astype(np.float64) - 0.5
        for name, (draws, call) in sources.items()
    }
    for (one, first), (other, second) in combinations(bits.items(), 2):
        correlation = float(first @ second) * 4 / count
        assert abs(correlation) < 5 / count**0.5, (one, other)
    shifted = bits["call"]
    for lag in (1, 2, 3, 4, 64):  # also within one call
        assert abs(float(shifted[lag:] @ shifted[:-lag]) * 4 / count) < 5 / count**0.5


def test_each_call_of_a_pass_drops_other_values() -> None:
    with (dropout := PassDropout()).forward([OWN]):
        first, second = (dropout.keep((1000, 1000), 0.5) for _ in range(2))
    with dropout.forward([OWN]):
        assert torch.equal(dropout.keep((1000, 1000), 0.5), first)
    assert (first == second).float().mean().item() == pytest.approx(0.5, abs=5e-3)


def test_a_trial_drops_the_same_values_beside_others() -> None:
    """Rows, text columns and prompt columns are the trial's own, wherever they lie."""
    other = RowDraws(seed=9, step=3, batch=1, rows=3, width=8)
    together = PassDropout()
    with together.forward([other, OWN]):
        hidden = together.keep((5, 8, 16), 0.4)
        together.prompts = (6, 2)
        attention = together.keep((5, 4, 8, 6 + 8), 0.4)
        decoder = together.keep((5, 1, 16), 0.4)
    for number, (own, rows, length) in enumerate([(other, slice(0, 3), 6), (OWN, slice(3, 5), 2)]):
        alone = PassDropout()
        with alone.forward([own]):
            width = own.width
            assert torch.equal(hidden[rows, :width], alone.keep((own.rows, width, 16), 0.4))
            part = attention[rows, :, :width, 6 - length : 6 + width]
            assert torch.equal(part, alone.keep((own.rows, 4, width, length + width), 0.4))
            assert torch.equal(decoder[rows], alone.keep((own.rows, 1, 16), 0.4)), number


def draws_of(batch, seed: int = 5, step: int = 0):
    rows, width = batch.input_ids.shape
    return replace(batch, draws=(RowDraws(seed, step, 0, rows, width),))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_drops_by_the_draws_of_its_batch_alone(family, folder_of) -> None:
    """As a module or as a function: nothing comes from the global generator."""
    backbone = tiny.load(folder_of(family), dropout=0.3).train()
    batch = tiny.text_batch([9, 6])
    prompts = tiny.random_prompts(backbone, 3)
    state = torch.get_rng_state()
    with torch.no_grad():
        first = backbone(draws_of(batch), prompts)
        if family not in LAYERDROP:
            assert torch.equal(state, torch.get_rng_state())
        torch.manual_seed(1)
        assert torch.equal(backbone(draws_of(batch), prompts), first)
        next_step = backbone(draws_of(batch, step=1), prompts)
        evaluated = backbone.eval()(draws_of(batch), prompts)
    if backbone.dropout:  # Llama's relatives have none
        assert not torch.allclose(next_step, first)
        assert not torch.allclose(evaluated, first)


SHARED = [name for name in FAMILIES if not name.startswith("deberta")]
"""DeBERTa's positions belong to no row, and its attention has rows and heads in one axis."""


@pytest.mark.parametrize("family", SHARED)
def test_rows_of_two_trials_come_out_as_alone(family, folder_of) -> None:
    backbone = tiny.load(folder_of(family), dropout=0.3).train()
    if not backbone.takes_offsets:
        pytest.skip("its lanes share passes only with equal offsets")
    batches = [
        draws_of(tiny.text_batch([9, 6], seed=1), seed=5),
        draws_of(tiny.text_batch([4, 4, 2], seed=2), seed=6),
    ]
    prompts = [tiny.random_prompts(backbone, length, seed=length) for length in (3, 5)]
    with torch.no_grad():
        alone = [backbone(*pair) for pair in zip(batches, prompts, strict=True)]
        shared = backbone(join_batches(batches), combined(prompts, [2, 3]))
    for part, own, batch in zip(shared.split([2, 3]), alone, batches, strict=True):
        real = batch.attention_mask.bool()
        found = part if backbone.decodes else part[:, : own.shape[1]][real]
        torch.testing.assert_close(
            found, own if backbone.decodes else own[real], atol=2e-5, rtol=1e-4
        )


@pytest.mark.parametrize("family", ["bert", "gpt2", "opt", "t5", "bart", "deberta-v2", "bloom"])
def test_recomputed_layers_drop_the_same_values(family, folder_of) -> None:
    gradients = []
    for checkpointed in (False, True):
        backbone = tiny.load(folder_of(family), dropout=0.3).train()
        if checkpointed:
            backbone.checkpoint_gradients()
        prompts = tiny.random_prompts(backbone, 3)
        leaves = [part.requires_grad_() for pair in prompts.keys_values.values() for part in pair]
        hidden = backbone(
            draws_of(tiny.text_batch([9, 6])), Prompts(keys_values=prompts.keys_values)
        )
        weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
        gradients.append(torch.autograd.grad((hidden * weights).sum(), leaves, allow_unused=True))
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-4)
