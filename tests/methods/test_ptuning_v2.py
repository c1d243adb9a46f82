"""P-tuning v2's own values: counts, initial values, layers, dropout."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from pydantic import ValidationError

from ptv2_cli.methods.layers import parse_layers
from ptv2_cli.methods.ptuning_v2 import PTuningV2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (0, 1, 2, 3, 4, 5)),
        ("2-4", (1, 2, 3)),
        ("1,3,5", (0, 2, 4)),
        ("5, 1-2", (0, 1, 4)),
        ("first:2", (0, 1)),
        ("last:2", (4, 5)),
        ("6", (5,)),
    ],
)
def test_layers(text, expected) -> None:
    assert parse_layers(text, 6) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7", "layer 7 does not exist: the model has layers 1 to 6"),
        ("0", "layer 0 does not exist"),
        ("last:9", "layer 9 does not exist"),
        ("4-2", "runs backwards"),
        ("top", "is not of the form"),
        ("1-", "is not of the form"),
        ("", "is not of the form"),
    ],
)
def test_layers_that_do_not_exist(text, message) -> None:
    with pytest.raises(ValueError, match=message):
        parse_layers(text, 6)


@pytest.mark.parametrize("given", [3, [1, 3], "1,3"])
def test_layers_may_be_a_number_or_a_list(given) -> None:
    expected = "3" if given == 3 else "1,3"
    assert PTuningV2.model_validate({"layers": given}).layers == expected


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2"])
def test_count_is_two_times_layers_times_width_times_length(family, backbone_of) -> None:
    method = tiny.make_method(backbone_of(family), "ptuning_v2", 5)
    assert method.counts() == {"prompt": 2 * 3 * 32 * 5, "reparam": 0}
    assert sum(p.numel() for p in method.parameters()) == 2 * 3 * 32 * 5


def test_grouped_heads_need_fewer_values(backbone_of) -> None:
    method = tiny.make_method(backbone_of("llama"), "ptuning_v2", 5)
    assert method.counts()["prompt"] == 2 * 3 * (2 * 8) * 5


def test_reparam_counts_and_shapes(backbone_of) -> None:
    method = tiny.make_method(
        backbone_of("bert"), "ptuning_v2", 5, reparam="mlp", reparam_hidden=16
    )
    width = 2 * 3 * 32
    network = 32 * 16 + 16 + 16 * width + width
    assert method.counts() == {"prompt": 5 * 32, "reparam": network}
    prompts = method().keys_values
    by_hand = torch.tanh(method.source.prompt @ method.source.network[0].weight.T)
    by_hand = by_hand @ method.source.network[2].weight.T
    keys = by_hand.view(5, 3, 2, 4, 8)[:, 1, 0].transpose(0, 1)  # layer 2 of 3
    torch.testing.assert_close(prompts[1][0][0], keys)


def test_keys_and_values_have_the_shape_of_their_site(backbone_of) -> None:
    prompts = tiny.make_method(backbone_of("llama"), "ptuning_v2", 5)().keys_values
    assert {tuple(part.shape) for pair in prompts.values() for part in pair} == {(1, 2, 5, 8)}
    flat = torch.stack([part for pair in prompts.values() for part in pair]).flatten(1)
    assert len(flat.unique(dim=0)) == 6  # no site shares its values with another


@pytest.mark.parametrize(
    ("init", "std"), [("normal", 0.02), ({"normal": 0.5}, 0.5), ({"normal": 1}, 1.0)]
)
def test_init_std(init, std, backbone_of) -> None:
    values = tiny.make_method(backbone_of("bert"), "ptuning_v2", 40, init=init).source.prompt
    assert values.std().item() == pytest.approx(std, rel=0.05)
    assert abs(values.mean().item()) < 4 * std / math.sqrt(values.numel())


def test_init_zero(backbone_of) -> None:
    method = tiny.make_method(backbone_of("bert"), "ptuning_v2", 4, init="zero")
    assert not method.source.prompt.any()


@pytest.mark.parametrize("init", ["uniform", {"normal": "x"}, {"std": 1}, 3])
def test_init_that_means_nothing(init) -> None:
    with pytest.raises(ValidationError, match="normal, zero, vocab"):
        PTuningV2.model_validate({"init": init})


@pytest.mark.parametrize("std", [0, -1.0, math.inf, math.nan])
def test_init_with_an_impossible_deviation(std: float) -> None:
    with pytest.raises(ValidationError, match="must be a finite number above 0, not"):
        PTuningV2.model_validate({"init": {"normal": std}})


def test_init_zero_behind_a_network_is_refused() -> None:
    ((key, what),) = PTuningV2(init="zero", reparam="mlp").problems(None, {"self": 3})
    assert key == "init"
    assert "equal throughout training" in what


def test_seed_decides_the_values(backbone_of) -> None:
    def draw(seed: int) -> torch.Tensor:
        return tiny.make_method(backbone_of("bert"), "ptuning_v2", 4, seed).source.prompt

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize(("word", "offset"), [("shift", 6), ("keep", 0)])
def test_position_offset(word, offset, backbone_of) -> None:
    method = tiny.make_method(backbone_of("bert"), "ptuning_v2", 6, position_offset=word)
    assert method().offset == offset
    assert PTuningV2(position_offset=word).shifts_positions == (word == "shift")


def test_dropout_comes_from_its_own_generator(backbone_of) -> None:
    before = torch.get_rng_state()
    method = tiny.make_method(backbone_of("bert"), "ptuning_v2", 20, dropout=0.5, init="normal")
    again = tiny.make_method(backbone_of("bert"), "ptuning_v2", 20, dropout=0.5)
    first, second = (method().keys_values[0][0] for _ in range(2))
    torch.manual_seed(99)
    repeated = again().keys_values[0][0]
    assert torch.equal(first, repeated)
    assert not torch.equal(first, second)
    torch.set_rng_state(before)

    state = torch.get_rng_state()
    method()
    assert torch.equal(torch.get_rng_state(), state)

    dropped = first == 0
    assert 0.4 < dropped.float().mean() < 0.6
    kept = method.eval()().keys_values[0][0]
    torch.testing.assert_close(first[~dropped], 2 * kept[~dropped])  # rescaled
    assert kept.count_nonzero() == kept.numel()


def test_dropout_defaults_to_the_backbones(backbone_of) -> None:
    context = tiny.context(backbone_of("bert"), dropout=0.25)
    assert PTuningV2().build(context).dropout.probability == 0.25
    assert PTuningV2(dropout=0.1).build(context).dropout.probability == 0.1
    assert PTuningV2(dropout="off").build(context).dropout.probability == 0.0
