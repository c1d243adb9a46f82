"""Prompt tuning: vectors beside the word embeddings, the head's frame that of the text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from ptv2_cli.backbones.sites import InputVectors, Prompts

LENGTH = 4
COLUMNS = {"before_cls": 0, "after_cls": 1}


def prompt_of(backbone) -> torch.Tensor:
    size = backbone.word_embeddings.shape[1]
    return torch.randn(LENGTH, size, generator=torch.Generator().manual_seed(3))


def by_hand(model, batch, prompt, at: int) -> torch.Tensor:
    """Stock hidden states of all positions, soft prompt before column `at`."""
    words = model.get_input_embeddings()(batch.input_ids)
    soft = prompt.expand(batch.rows, -1, -1)
    ones = torch.ones(batch.rows, LENGTH, dtype=torch.int64)
    mask = torch.cat([batch.attention_mask[:, :at], ones, batch.attention_mask[:, at:]], dim=1)
    embeds = torch.cat([words[:, :at], soft, words[:, at:]], dim=1)
    inputs = {"inputs_embeds": embeds, "attention_mask": mask}
    if batch.token_type_ids is not None:
        types = batch.token_type_ids
        inputs["token_type_ids"] = torch.cat([types[:, :at], 0 * ones, types[:, at:]], dim=1)
    if model.config.model_type == "roberta":
        real = mask.cumsum(dim=1) * mask
        inputs["position_ids"] = real + 1
    with torch.no_grad():
        return model(**inputs).last_hidden_state


@pytest.mark.parametrize("place", COLUMNS)
@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "electra", "gpt2", "llama"])
def test_equals_embeddings_built_by_hand(family, place, folder_of, backbone_of) -> None:
    backbone, at = backbone_of(family), COLUMNS[place]
    batch = tiny.text_batch([8, 5])
    if family in {"bert", "albert", "electra"}:
        types = (torch.arange(8) > 3).long().expand(2, -1)
        batch = replace(batch, token_type_ids=types)
    prompt = prompt_of(backbone)
    everything = by_hand(tiny.stock(folder_of(family)), batch, prompt, at)
    with torch.no_grad():
        found = backbone(batch, Prompts(inputs=InputVectors(prompt, at)))
    assert found.shape == (2, 8, 32)  # the frame of the text, soft positions left out
    # Token t stands at t, or at t + P behind the soft prompt.
    shifted = [t if t < at else t + LENGTH for t in range(8)]
    real = batch.attention_mask.bool()
    expected = everything[:, shifted]
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)


def test_the_head_reads_the_real_cls(folder_of) -> None:
    batch = replace(tiny.text_batch([8, 5]), labels=torch.tensor([0, 1]))
    for place, at in COLUMNS.items():
        learner = tiny.make_learner(
            tiny.load(folder_of("bert")), "prompt_tuning", LENGTH, pooling="pooler", place=place
        ).eval()
        model = tiny.stock(folder_of("bert"))
        states = by_hand(model, batch, learner.method.prompt.detach(), at)
        cls = states[:, 0 if at else LENGTH]
        pooled = torch.tanh(model.pooler.dense(cls))
        expected = (pooled @ learner.head.linear.weight.T).softmax(dim=-1)
        found = learner(batch).predictions["probabilities"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_init_vocab_copies_words(backbone_of) -> None:
    backbone = backbone_of("bert")
    method = tiny.make_method(backbone, "prompt_tuning", LENGTH, init="vocab")
    matches = (method.prompt[:, None] == backbone.word_embeddings[None]).all(dim=-1).any(dim=-1)
    assert matches.all()
    assert method.prompt.requires_grad
    assert method.prompt.data_ptr() != backbone.word_embeddings.data_ptr()


def test_init_labels_takes_the_labels_words_then_vocab(backbone_of) -> None:
    backbone = backbone_of("bert")
    table = backbone.word_embeddings
    method = tiny.make_method(backbone, "prompt_tuning", LENGTH, init="labels")
    torch.testing.assert_close(method.prompt[0], table[25])  # tiny.context's label pieces
    torch.testing.assert_close(method.prompt[1], (table[26] + table[27]) / 2)
    assert (method.prompt[2] == table).all(dim=-1).any()
    assert tiny.make_method(backbone, "prompt_tuning", 1, init="labels").prompt.shape == (1, 32)


def test_init_normal(backbone_of) -> None:
    method = tiny.make_method(backbone_of("bert"), "prompt_tuning", 200, init="normal")
    assert method.prompt.std().item() == pytest.approx(0.02, rel=0.05)


def test_count_is_length_times_embedding_width(backbone_of) -> None:
    method = tiny.make_method(backbone_of("albert"), "prompt_tuning", LENGTH)
    assert method.counts() == {"prompt": LENGTH * 16, "reparam": 0}
