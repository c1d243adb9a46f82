"""Prompts that begin as what the frozen model computes for words."""

from __future__ import annotations

import pytest
import tiny
import torch
from pydantic import ValidationError

from ptv2_cli.backbones.language.lm_head import Vocabulary
from ptv2_cli.errors import ConfigError
from ptv2_cli.methods.ptuning_v2 import PTuningV2

CAUSAL = ["gpt2", "opt", "bloom", "gpt_neox", "llama", "qwen3", "glm4"]
IDS = [7, 9, 8, 12]


class Words:
    """A vocabulary with what the tests need of it."""

    words = (5, 6, 7)
    unused = (21, 20, 22)

    def tokenize(self, text: str) -> list[int]:
        return [int(part) for part in text.split()]


def method_of(backbone, init, length: int = 4, seed: int = 0, **changes):
    context = tiny.context(
        backbone, seed, **{"vocabulary": Words(), "prompt_len": length, **changes}
    )
    return PTuningV2(init=init).build(context)


def keys(method) -> torch.Tensor:
    return torch.stack([key for key, _ in method.eval()().keys_values.values()])


@pytest.mark.parametrize("family", CAUSAL)
def test_a_text_as_prompt_equals_that_text_before_the_input(family, backbone_of, folder_of) -> None:
    """A causal model's prompt tokens do not see the text, so nothing else changes."""
    backbone = backbone_of(family)
    method = method_of(backbone, {"text": " ".join(map(str, IDS))})
    batch = tiny.text_batch([6, 6])
    whole = torch.cat([torch.tensor([IDS, IDS]), batch.input_ids], dim=1)
    expected = tiny.stock(folder_of(family))(input_ids=whole).last_hidden_state[:, 4:]
    assert torch.allclose(backbone(batch, method.eval()()), expected, atol=1e-4)


def test_an_encoder_keeps_the_keys_of_the_words_alone(backbone_of, folder_of) -> None:
    method = method_of(backbone_of("bert"), {"text": "7 9 8 12"})
    stock = tiny.stock(folder_of("bert"))
    states = stock.embeddings(input_ids=torch.tensor([IDS]))
    first = stock.encoder.layer[0].attention.self.key(states).view(1, 4, 4, 8).transpose(1, 2)
    assert torch.allclose(keys(method)[0], first, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "deberta", "deberta-v2", "mpnet", "t5", "bart"])
def test_every_site_has_the_shape_that_its_own_keys_have(family, backbone_of) -> None:
    backbone = backbone_of(family)
    found = method_of(backbone, "vocab").eval()().keys_values
    assert sorted(found) == list(range(len(backbone.sites)))
    for at, site in enumerate(backbone.sites):
        assert [part.shape for part in found[at]] == [(1, site.heads, 4, site.head_size)] * 2
        assert all(part.abs().sum() > 0 for part in found[at])


def test_words_are_drawn_by_the_seed_and_are_no_special_tokens(backbone_of) -> None:
    asked: list[list[int]] = []
    backbone = backbone_of("bert")

    def read(ids):
        asked.append(list(ids))
        return backbone.read(torch.tensor([list(ids)]))

    for seed in (1, 1, 2):
        method_of(backbone, "vocab", 30, seed, read=read)
    assert asked[0] == asked[1] != asked[2]
    assert set(asked[0]) == {5, 6, 7}


def test_labels_come_first_and_words_fill_up(backbone_of) -> None:
    asked: list[list[int]] = []
    backbone = backbone_of("bert")

    def read(ids):
        asked.append(list(ids))
        return backbone.read(torch.tensor([list(ids)]))

    method_of(backbone, "labels", 5, read=read)
    method_of(backbone, "labels", 2, read=read)
    assert asked[0][:3] == [25, 26, 27]
    assert set(asked[0][3:]) <= {5, 6, 7}
    assert asked[1] == [25, 26]


def test_unused_tokens_in_their_own_order(backbone_of) -> None:
    backbone = backbone_of("bert")
    same = method_of(backbone, {"text": "21 20 22"}, 3)
    assert torch.equal(keys(method_of(backbone, "unused", 3)), keys(same))
    with pytest.raises(ConfigError, match="has 3 unused tokens, the prompt 4"):
        method_of(backbone, "unused", 4)


@pytest.mark.parametrize(
    ("length", "text", "note"),
    [
        (2, "7 9", "the first of them are used"),
        (6, "7 9 8 7 9 8", "they are repeated"),
        (3, "7 9 8", ""),
    ],
)
def test_a_text_is_cut_or_repeated(length, text, note, backbone_of) -> None:
    backbone = backbone_of("bert")
    method = method_of(backbone, {"text": "7 9 8"}, length)
    assert torch.equal(keys(method), keys(method_of(backbone, {"text": text}, length)))
    assert note in "".join(method.notes)
    assert bool(method.notes) == bool(note)


def test_a_text_without_a_token_is_an_error(backbone_of) -> None:
    words = Words()
    words.tokenize = lambda text: []
    with pytest.raises(ConfigError, match="has no token"):
        method_of(backbone_of("bert"), {"text": "?"}, vocabulary=words)


def test_the_network_refuses_a_computed_start() -> None:
    for init in ("vocab", {"text": "a"}, {"run": "r"}):
        ((key, what),) = PTuningV2(init=init, reparam="mlp").problems(None, {"self": 3})
        assert key == "init"
        assert "with reparam: mlp the network sets them" in what


@pytest.mark.parametrize("std", [0, -1, float("inf"), float("nan")])
def test_an_impossible_deviation_is_named(std) -> None:
    with pytest.raises(ValidationError, match=f"a finite number above 0, not {std}"):
        PTuningV2(init={"normal": std})


def test_a_vocabulary_tells_words_from_special_and_unused_tokens() -> None:
    tokenizer = tiny.wordpiece()
    tokenizer.add_tokens(["[unused10]", "[unused2]"])
    found = Vocabulary(tokenizer)
    ten, two = tokenizer.convert_tokens_to_ids(["[unused10]", "[unused2]"])
    assert found.unused == [two, ten]
    assert found.words == list(range(len(tiny.SPECIALS), ten))
    assert found.tokenize("ann sat") == tokenizer.convert_tokens_to_ids(["ann", "sat"])


def test_sites_of_an_encoder_decoder(backbone_of) -> None:
    backbone = backbone_of("bart")
    for name, stacks in (
        ("all", {"encoder", "decoder", "cross"}),
        ("encoder", {"encoder"}),
        ("decoder", {"decoder"}),
        ("cross", {"cross"}),
    ):
        method = tiny.make_method(backbone, "ptuning_v2", 2, sites=name, layers="last:1")
        chosen = [backbone.sites[at] for at in method.sites]
        assert {site.stack for site in chosen} == stacks
        assert [site.layer for site in chosen] == [
            {"encoder": 2, "decoder": 1, "cross": 1}[site.stack] for site in chosen
        ]


@pytest.mark.parametrize(
    ("options", "stacks", "message"),
    [
        ({"sites": "decoder"}, {"self": 3}, "this backbone has one stack"),
        ({"sites": "cross"}, {"encoder": 3}, "runs the encoder alone"),
        ({"layers": "3"}, {"encoder": 3, "decoder": 2, "cross": 2}, "layer 3 does not exist"),
        ({"layers": "3", "sites": "encoder"}, {"encoder": 3, "decoder": 2}, None),
        ({"layers": "3", "sites": "decoder"}, {"encoder": 3, "decoder": 2}, "layer 3 does not"),
        ({"layers": "30"}, {"self": 24}, "the model has layers 1 to 24"),
    ],
)
def test_sites_and_layers_that_do_not_exist(options, stacks, message) -> None:
    complaints = list(PTuningV2(**options).problems(None, stacks))
    if message is None:
        assert complaints == []
    else:
        ((key, what),) = complaints
        assert message in what
        assert key == next(iter(options))
