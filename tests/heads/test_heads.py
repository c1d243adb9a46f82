"""Heads on tensors made by hand."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from ptv2_cli.heads.pooled import RegressionHead, SequenceHead
from ptv2_cli.heads.tokens import SpanHead, TokenHead
from ptv2_cli.inputs.batch import Batch

HIDDEN = torch.arange(2 * 4 * 2, dtype=torch.float32).view(2, 4, 2)
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def batch(**fields) -> Batch:
    return Batch(input_ids=torch.zeros_like(MASK), attention_mask=MASK, targets=2, **fields)


def sequence(pooling: str, **changes) -> SequenceHead:
    return SequenceHead(tiny.head_context(hidden_size=2, pooling=pooling, **changes))


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("cls", [[0, 1], [8, 9]]),
        ("mean", [[3, 4], [9, 10]]),
        ("last", [[6, 7], [10, 11]]),
        ("pooler", [[0, 10], [80, 90]]),
    ],
)
def test_pooling(pooling, expected) -> None:
    head = sequence(pooling, pooler=lambda vectors: 10 * vectors)
    assert head.pool(HIDDEN, batch()).tolist() == expected


@pytest.mark.parametrize("pooling", ["mask", "pooler", "cls", "mean"])
def test_a_mask_token_is_read_whatever_the_pooling(pooling) -> None:
    pooled = sequence(pooling).pool(HIDDEN, batch(mask_at=torch.tensor([2, 1])))
    assert pooled.tolist() == [[4, 5], [10, 11]]


def test_last_holds_for_padding_on_the_left() -> None:
    left = Batch(input_ids=torch.zeros_like(MASK), attention_mask=MASK.flip(1), targets=2)
    assert sequence("last").pool(HIDDEN, left).tolist() == [[6, 7], [14, 15]]


def set_weights(head, weight, bias) -> None:
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor(weight, dtype=torch.float32))
        head.linear.bias.copy_(torch.tensor(bias, dtype=torch.float32))


def test_sequence_loss_is_cross_entropy() -> None:
    head = sequence("cls", classes=2)
    set_weights(head, [[1, 0], [0, 1]], [0, 0.5])
    output = head(HIDDEN, batch(labels=torch.tensor([1, 0])))
    # Logits (0, 1.5) and (8, 9.5): both rows differ by 1.5.
    right, wrong = math.log(1 + math.exp(-1.5)), math.log(1 + math.exp(1.5))
    assert output.loss.item() == pytest.approx((right + wrong) / 2)
    expected = 1 / (1 + math.exp(1.5))
    assert output.predictions["probabilities"][:, 0].tolist() == pytest.approx([expected] * 2)
    assert head(HIDDEN, batch()).loss is None


def test_token_loss_averages_over_labelled_positions() -> None:
    head = TokenHead(tiny.head_context(hidden_size=2, classes=2))
    set_weights(head, [[1, 0], [0, 1]], [0, 0])
    labels = torch.tensor([[-100, 1, 0, -100], [1, -100, -100, -100]])
    output = head(HIDDEN, batch(labels=labels))
    # Every position's second logit is greater by 1.
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert output.loss.item() == pytest.approx((2 * right + wrong) / 3)
    assert output.predictions["probabilities"].shape == (2, 4, 2)


def test_a_window_without_labels_has_no_loss() -> None:
    """As when every word of it is read in a neighbouring window."""
    head = TokenHead(tiny.head_context(hidden_size=2, classes=2))
    loss = head(HIDDEN, batch(labels=torch.full((2, 4), -100))).loss
    loss.backward()
    assert loss.item() == 0
    assert not head.linear.weight.grad.any()


def test_span_hides_padding_and_averages_both_ends() -> None:
    head = SpanHead(tiny.head_context(hidden_size=2))
    set_weights(head, [[0, 0], [0, 0]], [0, 0])
    output = head(HIDDEN, batch(labels=torch.tensor([[0, 3], [0, 1]])))
    assert output.predictions["start"][1].tolist() == [0, 0, -math.inf, -math.inf]
    assert output.predictions["end"][0].tolist() == [0, 0, 0, 0]
    assert output.loss.item() == pytest.approx((math.log(4) + math.log(2)) / 2)  # padding is out
    set_weights(head, [[1, 0], [0, -1]], [0, 0])
    output = head(HIDDEN, batch(labels=torch.tensor([[0, 0], [0, 0]])))
    start = torch.logsumexp(torch.tensor([0.0, 2, 4, 6]), 0) + math.log(1 + math.exp(2))
    end = math.log(1 + math.exp(-2) + math.exp(-4) + math.exp(-6)) + math.log(1 + math.exp(-2))
    assert output.loss.item() == pytest.approx((start.item() + end) / 4)


@pytest.mark.parametrize("made", [SequenceHead, TokenHead, SpanHead])
def test_init(made) -> None:
    head = made(tiny.head_context(hidden_size=4000))
    assert head.linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not head.linear.bias.any()
    again = made(tiny.head_context(hidden_size=4000))
    assert torch.equal(head.linear.weight, again.linear.weight)


def test_dropout_is_seeded_and_off_in_eval() -> None:
    torch.manual_seed(0)
    first = sequence("cls", dropout=0.5)
    torch.manual_seed(1)
    second = sequence("cls", dropout=0.5)
    ones = torch.ones(50, 2)
    assert torch.equal(first.logits(ones), second.logits(ones))
    assert not torch.equal(first.logits(ones), first.logits(ones))
    assert torch.equal(first.eval().logits(ones), ones @ first.linear.weight.T)


def test_logits_stay_fp32_under_autocast() -> None:
    head = sequence("cls")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.logits(HIDDEN[:, 0].bfloat16()).dtype == torch.float32


def test_regression_loss_is_the_mean_squared_error_of_labelled_rows() -> None:
    head = RegressionHead(tiny.head_context(hidden_size=2, pooling="cls"))
    set_weights(head, [[1.0, 2.0]], [0.5])  # values 2.5 and 26.5
    output = head(HIDDEN, batch(labels=torch.tensor([1.0, 23.5])))
    assert output.predictions["value"].tolist() == [2.5, 26.5]
    assert output.loss.item() == pytest.approx((1.5**2 + 3.0**2) / 2)
    half = head(HIDDEN, batch(labels=torch.tensor([1.0, math.nan])))
    assert half.loss.item() == pytest.approx(1.5**2)
    half.loss.backward()
    assert head.linear.weight.grad.tolist() == [[0.0, 3.0]]
    assert head(HIDDEN, batch()).loss is None
