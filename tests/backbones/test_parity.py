"""Prompts through the attention registry against stock models with the prompts in their cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ptv2_cli.backbones.sites import Prompts

LENGTH = 5
CACHED = ["bert", "roberta", "xlm-roberta", "electra", "gpt2", "gpt_neox", "llama", "qwen3"]
ALL = [*CACHED, "albert", "modernbert"]
LENGTHS = {"unpadded": [7, 7], "padded": [9, 4, 1]}


def ours(backbone, batch, prompts: Prompts) -> Tensor:
    with torch.no_grad():
        return backbone(batch, prompts)


def with_cache(model, batch, prompts: Prompts, **inputs) -> Tensor:
    """Stock hidden states with the prompts as past keys and values."""
    rows = batch.rows
    cache = DynamicCache()
    for layer, (keys, values) in prompts.keys_values.items():
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
    mask = torch.cat([torch.ones(rows, LENGTH, dtype=torch.int64), batch.attention_mask], dim=1)
    with torch.no_grad():
        return model(
            input_ids=batch.input_ids, attention_mask=mask, past_key_values=cache, **inputs
        ).last_hidden_state


def assert_same_text(found: Tensor, expected: Tensor, batch) -> None:
    real = batch.attention_mask.bool()
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)


def padded_ids(batch, family: str):
    """RoBERTa's stock model finds padding by its id, 1."""
    if "roberta" not in family:
        return batch
    return replace(batch, input_ids=batch.input_ids + (1 - batch.attention_mask))


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", CACHED)
def test_shift_equals_stock_with_a_cache(family, lengths, folder_of, backbone_of) -> None:
    backbone = backbone_of(family)
    batch = padded_ids(tiny.text_batch(lengths), family)
    prompts = tiny.random_prompts(backbone, LENGTH, offset=LENGTH)
    found = ours(backbone, batch, prompts)
    assert_same_text(found, with_cache(tiny.stock(folder_of(family)), batch, prompts), batch)
    assert (found - ours(backbone, batch, Prompts())).abs().max() > 0.1


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", ["bert", "electra", "gpt2", "gpt_neox", "llama"])
def test_keep_equals_stock_with_explicit_positions(family, lengths, folder_of, backbone_of) -> None:
    backbone = backbone_of(family)
    batch = tiny.text_batch(lengths)
    prompts = tiny.random_prompts(backbone, LENGTH)
    positions = torch.arange(max(lengths))[None]
    expected = with_cache(tiny.stock(folder_of(family)), batch, prompts, position_ids=positions)
    assert_same_text(ours(backbone, batch, prompts), expected, batch)


@pytest.mark.parametrize("offset", [0, LENGTH])
def test_roberta_positions_count_real_tokens(offset, folder_of, backbone_of) -> None:
    backbone = backbone_of("roberta")
    batch = padded_ids(tiny.text_batch([6, 3]), "roberta")
    prompts = tiny.random_prompts(backbone, LENGTH, offset=offset)
    first = 2 + offset  # padding_idx + 1, shifted
    positions = torch.tensor([range(first, first + 6), [*range(first, first + 3), 1, 1, 1]])
    expected = with_cache(tiny.stock(folder_of("roberta")), batch, prompts, position_ids=positions)
    assert_same_text(ours(backbone, batch, prompts), expected, batch)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", ALL)
def test_without_prompts_it_is_the_stock_model(family, lengths, folder_of, backbone_of) -> None:
    batch = padded_ids(tiny.text_batch(lengths), family)
    with torch.no_grad():
        expected = tiny.stock(folder_of(family))(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask
        ).last_hidden_state
    assert_same_text(ours(backbone_of(family), batch, Prompts()), expected, batch)


@pytest.mark.parametrize("family", ALL)
def test_padding_does_not_leak(family, backbone_of) -> None:
    backbone = backbone_of(family)
    prompts = tiny.random_prompts(backbone, LENGTH, offset=LENGTH)
    batch = tiny.text_batch([6, 3])
    expected = ours(backbone, batch, prompts)

    scribbled = batch.input_ids + 17 * (1 - batch.attention_mask)
    other_ids = replace(batch, input_ids=scribbled)
    assert_same_text(ours(backbone, other_ids, prompts), expected, batch)

    wider = tiny.text_batch([6, 3], width=11)
    assert_same_text(ours(backbone, wider, prompts)[:, :6], expected, batch)

    alone = tiny.text_batch([6, 3])
    alone = replace(
        alone, input_ids=alone.input_ids[1:, :3], attention_mask=alone.attention_mask[1:, :3]
    )
    torch.testing.assert_close(
        ours(backbone, alone, prompts)[0], expected[1, :3], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("padded", [False, True])
def test_grouped_heads_equal_plain_attention(padded, backbone_of) -> None:
    """The attention function alone, with 4 heads and 2 key heads, and mask None or with padding."""
    from ptv2_cli.backbones.attention import prompted_attention
    from ptv2_cli.backbones.injection import Injection

    backbone = backbone_of("llama")
    module = backbone.model.layers[0].self_attn
    attached, name = module._ptv2_site
    source = torch.Generator().manual_seed(1)
    query = torch.randn(2, 4, 6, 8, generator=source)
    key, value = (torch.randn(2, 2, 6, 8, generator=source) for _ in range(2))
    prompt = tuple(torch.randn(1, 2, LENGTH, 8, generator=source) for _ in range(2))
    causal = torch.ones(6, 6, dtype=torch.bool).tril().expand(2, 1, 6, 6).clone()
    if padded:
        causal[1, :, :, 4:] = False
    injection = Injection()
    injection.index = {(name, 0): 0}
    module._ptv2_site = (injection, name)
    try:
        with injection.forward(Prompts(keys_values={0: prompt})):
            found, _ = prompted_attention(
                module, query, key, value, causal if padded else None, scaling=0.5
            )
    finally:
        module._ptv2_site = (attached, name)

    keys, values = (
        torch.cat([p.expand(2, -1, -1, -1), own], dim=2).repeat_interleave(2, dim=1)
        for p, own in zip(prompt, (key, value), strict=True)
    )
    scores = 0.5 * query @ keys.transpose(2, 3)
    seen = nn.functional.pad(causal, (LENGTH, 0), value=True)
    expected = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1) @ values
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def albert_by_hand(model, ids: Tensor, offset: int, prompts: Prompts) -> Tensor:
    """ALBERT's one layer called L times, written out from its weights."""
    table = model.embeddings
    tokens = ids.shape[1]
    hidden = (
        table.word_embeddings(ids)
        + table.position_embeddings.weight[offset : offset + tokens]
        + table.token_type_embeddings.weight[0]
    )
    hidden = model.encoder.embedding_hidden_mapping_in(table.LayerNorm(hidden))
    layer = model.encoder.albert_layer_groups[0].albert_layers[0]
    own = layer.attention

    def heads(states: Tensor) -> Tensor:
        return states.unflatten(-1, (4, 8)).transpose(1, 2)

    for call in range(len(prompts.keys_values)):
        keys, values = (p.expand(len(ids), -1, -1, -1) for p in prompts.keys_values[call])
        query = heads(own.query(hidden))
        key = torch.cat([keys, heads(own.key(hidden))], dim=2)
        value = torch.cat([values, heads(own.value(hidden))], dim=2)
        mixed = (query @ key.transpose(2, 3) / 8**0.5).softmax(dim=-1) @ value
        attended = own.LayerNorm(hidden + own.dense(mixed.transpose(1, 2).flatten(2)))
        grown = layer.ffn_output(layer.activation(layer.ffn(attended)))
        hidden = layer.full_layer_layer_norm(grown + attended)
    return hidden


def test_albert_gets_other_prompts_at_every_call(folder_of, backbone_of) -> None:
    backbone = backbone_of("albert")
    assert [site.call for site in backbone.sites] == [0, 1, 2]
    assert len({site.module for site in backbone.sites}) == 1
    batch = tiny.text_batch([6, 6])
    prompts = tiny.random_prompts(backbone, LENGTH, offset=LENGTH)
    with torch.no_grad():
        expected = albert_by_hand(tiny.stock(folder_of("albert")), batch.input_ids, LENGTH, prompts)
    found = ours(backbone, batch, prompts)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    swapped = {0: prompts.keys_values[1], 1: prompts.keys_values[0], 2: prompts.keys_values[2]}
    assert (ours(backbone, batch, replace(prompts, keys_values=swapped)) - found).abs().max() > 0.1


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "modernbert"])
def test_masked_prompt_columns_change_nothing(family, lengths, backbone_of) -> None:
    backbone = backbone_of(family)
    batch = tiny.text_batch(lengths)
    prompts = tiny.random_prompts(backbone, LENGTH, offset=3)
    shorter = {
        at: (keys[:, :, :2], values[:, :, :2]) for at, (keys, values) in prompts.keys_values.items()
    }
    expected = ours(backbone, batch, Prompts(keys_values=shorter, offset=3))
    seen = torch.arange(LENGTH)[None] < 2
    for mask in (seen, seen.expand(len(lengths), -1)):
        found = ours(backbone, batch, replace(prompts, mask=mask))
        assert_same_text(found, expected, batch)


@pytest.mark.parametrize("lengths", [[14, 14], [14, 6]], ids=LENGTHS)
@pytest.mark.parametrize("family", ALL)
def test_a_prompt_hidden_altogether_is_no_prompt(family, lengths, backbone_of) -> None:
    """Text longer than ModernBERT's windows: its two kinds of layers keep their own masks."""
    backbone = backbone_of(family)
    batch = tiny.text_batch(lengths)
    hidden = torch.zeros(1, LENGTH, dtype=torch.bool)
    found = ours(backbone, batch, tiny.random_prompts(backbone, LENGTH, mask=hidden))
    assert_same_text(found, ours(backbone, batch, Prompts()), batch)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "albert"])
def test_every_row_may_have_its_own_prompt(family, backbone_of) -> None:
    backbone = backbone_of(family)
    batch = tiny.text_batch([7, 4, 7])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    prompts = tiny.random_prompts(backbone, LENGTH, rows=3, offset=2, mask=mask)
    found = ours(backbone, batch, prompts)
    for row, size in enumerate((5, 3, 1)):
        alone, own = tiny.row_alone(batch, prompts, row, size)
        expected = ours(backbone, alone, Prompts(keys_values=own, offset=2))[0]
        torch.testing.assert_close(found[row, : len(expected)], expected, atol=1e-5, rtol=1e-5)


def test_modernbert_sliding_windows_see_prompts_and_stay_windows(tmp_path) -> None:
    """One sliding layer: distant text is hidden, and the prompt is visible everywhere."""
    folder = tiny.save_model(
        tmp_path,
        "modernbert",
        tokenizer=False,
        num_hidden_layers=2,
        global_attn_every_n_layers=2,
        layer_types=["sliding_attention", "sliding_attention"],
    )
    backbone = tiny.load(folder).eval()
    batch = tiny.text_batch([14])
    prompts = tiny.random_prompts(backbone, LENGTH)
    found = ours(backbone, batch, prompts)
    only_last = {0: prompts.keys_values[0]}
    plain = ours(backbone, batch, Prompts())
    seen = (ours(backbone, batch, Prompts(keys_values=only_last)) - plain).abs().amax(dim=-1)
    assert seen.min() > 1e-2  # at every position, the first and the last alike

    other = batch.input_ids.clone()
    other[0, 0] = 44 - other[0, 0]
    changed = ours(backbone, replace(batch, input_ids=other), prompts)
    moved = (changed - found).abs().amax(dim=-1)[0]
    assert moved[1] > 1e-2
    assert moved[2 * 2 + 1 :].max() < 1e-5  # two layers of windows of 2 to each side


def test_shift_and_keep_differ_where_positions_are_a_table(backbone_of) -> None:
    backbone = backbone_of("bert")
    batch = tiny.text_batch([6])
    prompts = tiny.random_prompts(backbone, LENGTH)
    shifted = replace(prompts, offset=LENGTH)
    assert (ours(backbone, batch, prompts) - ours(backbone, batch, shifted)).abs().max() > 0.1
