"""The share of each softmax that falls on the prompt, against an attention by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import plain
import pytest
import tiny
import torch
import transformers

from ptv2_cli.backbones.families import FAMILIES
from ptv2_cli.backbones.shares import prompt_shares
from ptv2_cli.backbones.sites import InputVectors, Prompts

LENGTHS = [9, 4, 2]
P = 5
Of = Callable[[str], Any]


def prompts_of(backbone: Any) -> Prompts:
    return Prompts(keys_values=dict(enumerate(plain.random_values(backbone, P))), offset=P)


@pytest.mark.parametrize("family", FAMILIES)
def test_shares_equal_an_attention_by_hand(family: str, folder_of: Of, backbone_of: Of) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    prompts = prompts_of(backbone)
    model = plain.plain_model(folder_of(family), family, P)
    with torch.no_grad():
        values = list((prompts.keys_values or {}).values())
        plain.hidden_states(model, family, batch, values, P)
    found = prompt_shares(backbone, batch, prompts)
    assert len(plain.SHARES) == len(found) == len(backbone.sites)
    for site, weights in enumerate(plain.SHARES):
        decoding = backbone.sites[site].stack in {"decoder", "cross"}
        text = batch.attention_mask[:, :1] if decoding else batch.attention_mask
        expected = weights.transpose(1, 2)[text.bool()].sum(dim=0)  # padding left out
        torch.testing.assert_close(found[site].shares, expected, atol=2e-5, rtol=2e-4)
        assert found[site].queries == int(text.sum())
        heads = found[site].shares.sum(dim=1) / found[site].queries
        assert heads.min() > 0.01
        assert heads.max() < 0.99


@pytest.mark.parametrize("family", ["bert", "llama", "deberta-v2", "bloom", "t5"])
def test_it_changes_nothing_and_is_off_afterwards(family: str, backbone_of: Of) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    prompts = prompts_of(backbone)
    with torch.no_grad():
        before = backbone(batch, prompts)
        prompt_shares(backbone, batch, prompts)
        assert torch.equal(before, backbone(batch, prompts))
    assert backbone.injection.watcher is None


@pytest.mark.parametrize("family", ["bert", "llama", "mpnet", "deberta"])
def test_a_hidden_prompt_gets_nothing(family: str, backbone_of: Of) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    visible = torch.tensor([[False, False, True, True, True]])
    found = prompt_shares(backbone, batch, replace(prompts_of(backbone), mask=visible))
    for each in found.values():
        assert each.shares[:, :2].abs().max() == 0
        assert each.shares[:, 2:].min() > 0


@pytest.mark.parametrize("family", ["bert", "gpt2", "bloom", "bart"])
def test_the_even_share_of_the_one_site_with_a_prompt(family: str, backbone_of: Of) -> None:
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS)
    values = prompts_of(backbone).keys_values or {}
    found = prompt_shares(backbone, batch, Prompts(keys_values={0: values[0]}))
    assert set(found) == {0}  # the others have no prompt
    alone = found[0]
    length = torch.tensor([float(length) for length in LENGTHS])
    if FAMILIES[family].causal:
        seen = torch.cat([torch.arange(1.0, each + 1) for each in LENGTHS])
        expected = (P / (P + seen)).sum()
    else:
        expected = (length * P / (P + length)).sum()
    assert alone.even == pytest.approx(float(expected), rel=1e-5)


def test_norms(backbone_of: Of) -> None:
    backbone, batch = backbone_of("llama"), tiny.text_batch(LENGTHS)
    prompts = prompts_of(backbone)
    with torch.no_grad(), backbone.injection.recording() as calls:
        backbone(batch, prompts)
    found = prompt_shares(backbone, batch, prompts)[1]
    assert found.keys is not None
    assert prompts.keys_values is not None
    keys = prompts.keys_values[1][0]
    torch.testing.assert_close(found.keys.prompt, keys[0].norm(dim=2).mean(dim=0))
    real = batch.attention_mask.bool()
    expected = calls[1].key.norm(dim=3).mean(dim=1)[real].sum()
    assert found.keys.text == pytest.approx(float(expected), rel=1e-5)
    assert found.keys.tokens == sum(LENGTHS)


@pytest.mark.parametrize("family", ["bert", "llama", "deberta"])
@pytest.mark.parametrize("column", [0, 1])
def test_vectors_among_the_words(family: str, column: int, folder_of: Of, backbone_of: Of) -> None:
    """The weights of stock attention at the columns of the vectors, for queries of the text."""
    backbone, batch = backbone_of(family), tiny.text_batch(LENGTHS, high=40)
    vectors = torch.randn(3, backbone.word_embeddings.shape[1], generator=torch.Generator())
    found = prompt_shares(backbone, batch, Prompts(inputs=InputVectors(vectors, column)))
    stock = transformers.AutoModel.from_pretrained(
        folder_of(family), attn_implementation="eager"
    ).eval()
    words = stock.get_input_embeddings()(batch.input_ids)
    wide = torch.cat([words[:, :column], vectors.expand(3, -1, -1), words[:, column:]], dim=1)
    mask = torch.cat([torch.ones(3, 3, dtype=torch.int64), batch.attention_mask], dim=1)
    with torch.no_grad():
        weights = stock(inputs_embeds=wide, attention_mask=mask, output_attentions=True).attentions
    text = mask.bool()
    text[:, column : column + 3] = False
    for site, each in enumerate(weights):
        expected = each[..., column : column + 3].transpose(1, 2)[text].sum(dim=0)
        torch.testing.assert_close(found[site].shares, expected, atol=2e-5, rtol=2e-4)


def test_a_template(backbone_of: Of) -> None:
    """Vectors at the slots of a template are those that stand there as a block."""
    backbone, batch = backbone_of("bert"), tiny.text_batch([6, 5], high=40)
    vectors = torch.randn(2, backbone.word_embeddings.shape[1], generator=torch.Generator())
    block = prompt_shares(backbone, batch, Prompts(inputs=InputVectors(vectors, 1)))
    ids = torch.cat([batch.input_ids[:, :1], batch.input_ids[:, :2], batch.input_ids[:, 1:]], dim=1)
    mask = torch.cat([torch.ones(2, 2, dtype=torch.int64), batch.attention_mask], dim=1)
    slots = torch.full(ids.shape, -1)
    slots[:, 1], slots[:, 2] = 0, 1
    wide = replace(batch, input_ids=ids, attention_mask=mask, slots=slots)
    slotted = prompt_shares(backbone, wide, Prompts(inputs=InputVectors(vectors, None)))
    for site, each in block.items():
        torch.testing.assert_close(slotted[site].shares, each.shares)
        assert slotted[site].even == each.even


def test_gates_have_no_share(backbone_of: Of) -> None:
    backbone, batch = backbone_of("bert"), tiny.text_batch(LENGTHS)
    gates = {0: torch.ones(1, backbone.sites[0].heads)}
    found = prompt_shares(backbone, batch, replace(prompts_of(backbone), gates=gates))
    assert 0 not in found
    assert 1 in found
