"""Attention by matrix products against torch's: outputs and gradients, all masks and families."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor

from ptv2_cli.backbones import cpu_attention
from ptv2_cli.backbones.dropout import PassDropout
from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.rng import RowDraws

ROWS, HEADS, LENGTH, SIZE, PROMPT = 3, 4, 7, 8, 5
KEYS = PROMPT + LENGTH


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source).to(dtype).requires_grad_()


def biases() -> dict[str, Tensor | None]:
    low = torch.finfo(torch.float32).min
    columns = torch.zeros(ROWS, 1, 1, KEYS)
    columns[1, ..., -3:] = low
    causal = torch.full((LENGTH, LENGTH), low).triu(1)
    causal = torch.nn.functional.pad(causal, (PROMPT, 0))[None, None]
    return {
        "none": None,
        "padding": columns,
        "causal": causal,
        "both": torch.maximum(columns + causal, torch.tensor(low)),
        "position bias": draw(1, HEADS, LENGTH, KEYS, seed=9),
    }


@pytest.mark.parametrize("bias", biases())
@pytest.mark.parametrize("groups", [HEADS, 2, 1])
@pytest.mark.parametrize("with_prompt", [True, False])
def test_it_equals_torch(bias, groups, with_prompt) -> None:
    added = biases()[bias]
    query = draw(ROWS, HEADS, LENGTH, SIZE, seed=1)
    key, value = (draw(ROWS, groups, LENGTH, SIZE, seed=seed) for seed in (2, 3))
    prompt = tuple(draw(ROWS, groups, PROMPT, SIZE, seed=seed) for seed in (4, 5))
    leaves = [query, key, value]
    if with_prompt:
        leaves += prompt
    elif added is not None:
        added = added[..., PROMPT:].detach().requires_grad_(added.requires_grad)
    if added is not None and added.requires_grad:
        leaves.append(added)
    found = cpu_attention.attention(
        query, key, value, prompt if with_prompt else None, added, 0.3, None, 0.0
    )
    keys, values = key, value
    if with_prompt:
        keys, values = torch.cat([prompt[0], key], 2), torch.cat([prompt[1], value], 2)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=added, scale=0.3, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
    ours = torch.autograd.grad((found * weights).sum(), leaves)
    stock = torch.autograd.grad((expected * weights).sum(), leaves)
    for one, other in zip(ours, stock, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("needed", range(5))
def test_each_gradient_alone(needed) -> None:
    """The lowest prompted layer needs those of the prompt alone."""
    shapes = [(ROWS, HEADS, LENGTH, SIZE)] * 3 + [(ROWS, HEADS, PROMPT, SIZE)] * 2
    inputs = [draw(*shape, seed=seed) for seed, shape in enumerate(shapes)]

    def output(parts: list[Tensor]) -> Tensor:
        query, key, value, *prompt = parts
        return cpu_attention.attention(query, key, value, tuple(prompt), None, None, None, 0.0)

    whole = torch.autograd.grad(output(inputs).square().sum(), inputs)
    frozen = [part.detach() for part in inputs]
    frozen[needed].requires_grad_()
    (alone,) = torch.autograd.grad(output(frozen).square().sum(), frozen[needed])
    torch.testing.assert_close(alone, whole[needed], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dropout_drops_probabilities(dtype) -> None:
    query, key, value = (draw(ROWS, HEADS, LENGTH, SIZE, seed=s, dtype=dtype) for s in (1, 2, 3))
    dropout, draws = PassDropout(), RowDraws(1, 2, 0, ROWS, LENGTH)
    with dropout.forward([draws]):
        found = cpu_attention.attention(query, key, value, None, None, None, dropout, 0.4)
    with dropout.forward([draws]):
        keep = dropout.keep((ROWS, HEADS, LENGTH, LENGTH), 0.4)
    scores = (query @ key.transpose(2, 3)).float() / SIZE**0.5
    factors = keep / (1 - round(0.4 * 65536) / 65536)
    expected = ((scores.softmax(-1) * factors).to(dtype) @ value).transpose(1, 2)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    ours = torch.autograd.grad((found * weights).sum(), (query, key, value))
    stock = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    for one, other in zip(ours, stock, strict=True):
        torch.testing.assert_close(one, other, atol=5 * tolerance, rtol=5 * tolerance)


REGISTERED = [name for name, family in FAMILIES.items() if family.registry]


@pytest.mark.parametrize("lengths", [[9, 9], [9, 4, 1]], ids=["unpadded", "padded"])
@pytest.mark.parametrize("family", REGISTERED)
def test_every_family_gives_what_torch_gives(family, lengths, folder_of, monkeypatch) -> None:
    backbone = tiny.load(folder_of(family), dropout="off")
    batch = tiny.text_batch(lengths)
    results, calls = [], []
    products = cpu_attention.attention

    def counting(*args):
        calls.append(args)
        return products(*args)

    monkeypatch.setattr(cpu_attention, "attention", counting)
    for ours_is_faster in (True, False):
        monkeypatch.setattr(cpu_attention, "is_faster", lambda *args, it=ours_is_faster: it)
        prompts = tiny.random_prompts(backbone, 4)
        leaves = [part.requires_grad_() for pair in prompts.keys_values.values() for part in pair]
        hidden = backbone(batch, Prompts(keys_values=prompts.keys_values))
        real = hidden if backbone.decodes else hidden[batch.attention_mask.bool()]
        weights = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
        results.append([real, *torch.autograd.grad((real * weights).sum(), leaves)])
        assert len(calls) == len(backbone.sites)  # in the first round alone
    for ours, stock in zip(*results, strict=True):
        largest = stock.abs().max().item()
        torch.testing.assert_close(ours, stock, atol=1e-5 * max(1, largest), rtol=1e-5)


def test_fused_attention_is_kept_where_it_is_faster() -> None:
    def faster(tokens: int, dtype: torch.dtype, rows: int = 1, **options: bool) -> bool:
        query = torch.empty(rows, 12, tokens, 8, dtype=dtype)
        options = {"gradient": True, "dropout": False, **options}
        return cpu_attention.is_faster(query, tokens + 20, **options)

    half, single = torch.bfloat16, torch.float32
    assert faster(16, half)
    assert faster(512, half)
    assert not faster(512, half, gradient=False)
    assert not faster(512, half, rows=32)  # its scores would take hundreds of megabytes
    assert not faster(16, single)
    assert faster(16, single, dropout=True)
    assert faster(512, half, rows=32, dropout=True)
    on_a_gpu = torch.empty(1, 1, 16, 8, dtype=half, device="meta")
    assert not cpu_attention.is_faster(on_a_gpu, 36, gradient=True, dropout=True)


def test_autocast_casts_what_rotation_left_in_fp32(folder_of) -> None:
    backbone = tiny.load(folder_of("llama"), dropout="off")
    batch, prompts = tiny.text_batch([9, 4]), tiny.random_prompts(backbone, 4)
    with torch.no_grad():
        exact = backbone(batch, prompts)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = backbone(replace(batch), prompts)
    real = batch.attention_mask.bool()
    torch.testing.assert_close(rounded[real].float(), exact[real], atol=0.2, rtol=0.1)
