"""The choice head on tensors made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tiny
import torch

from ptv2_cli.heads.pooled import ChoiceHead
from ptv2_cli.inputs.batch import Batch

# Five inputs of one token; what the head reads of each is (its score, 7).
SCORES = torch.tensor([1.0, 3.0, 0.5, 2.0, -1.0])
HIDDEN = torch.stack([SCORES, torch.full_like(SCORES, 7)], dim=1)[:, None]
ONES = torch.ones(5, 1, dtype=torch.int64)
BATCH = Batch(
    input_ids=ONES,
    attention_mask=ONES,
    targets=2,
    labels=torch.tensor([1, 0]),
    choices=torch.tensor([[0, 1, -1], [2, 3, 4]]),
)


def made(pooling: str = "cls") -> ChoiceHead:
    head = ChoiceHead(tiny.head_context(hidden_size=2, pooling=pooling))
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[1.0, 0.0]]))
    return head


def test_choices_are_scored_against_those_of_their_own_question() -> None:
    output = made()(HIDDEN, BATCH)
    first = math.log(math.exp(1) + math.exp(3)) - 3
    second = math.log(math.exp(0.5) + math.exp(2) + math.exp(-1)) - 0.5
    assert output.loss.item() == pytest.approx((first + second) / 2)
    found = output.predictions["probabilities"]
    assert found.shape == (2, 3)
    assert found.sum(dim=1).tolist() == pytest.approx([1, 1])
    assert found[0, 2] == 0  # there is no such choice
    assert found[0, 1].item() == pytest.approx(math.exp(-first))
    assert made()(HIDDEN, replace(BATCH, labels=None)).loss is None


def test_gradient_passes_over_choices_that_are_not_there() -> None:
    head = made()
    hidden = HIDDEN.clone().requires_grad_()
    head(hidden, BATCH).loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()
    # Softmax minus one-hot over each question's own choices, halved by the mean: sums to zero.
    gradient = hidden.grad[:, 0, 0]
    assert gradient[:2].sum().item() == pytest.approx(0, abs=1e-6)
    assert gradient[2:].sum().item() == pytest.approx(0, abs=1e-6)
    assert gradient[0].item() == pytest.approx(0.5 / (1 + math.exp(2)))


def test_order_of_the_choices_does_not_matter() -> None:
    plain = made()(HIDDEN, BATCH)
    shuffled = replace(
        BATCH, choices=torch.tensor([[1, 0, -1], [4, 2, 3]]), labels=torch.tensor([0, 1])
    )
    other = made()(HIDDEN, shuffled)
    assert other.loss.item() == pytest.approx(plain.loss.item())
    found, again = (output.predictions["probabilities"] for output in (plain, other))
    assert again[0].tolist() == found[0, [1, 0, 2]].tolist()
    assert again[1].tolist() == pytest.approx(found[1, [2, 0, 1]].tolist())


@pytest.mark.parametrize("number", [0, 1])
def test_unlabelled_questions_do_not_count(number: int) -> None:
    one = [made()(HIDDEN, BATCH).predictions["probabilities"][number, label] for label in (1, 0)]
    labels = torch.tensor([-100, -100])
    labels[number] = BATCH.labels[number]
    loss = made()(HIDDEN, replace(BATCH, labels=labels)).loss
    assert loss.item() == pytest.approx(-math.log(one[number].item()))


def test_it_has_one_output_and_no_bias() -> None:
    head = ChoiceHead(tiny.head_context(hidden_size=4000))
    assert [tuple(p.shape) for p in head.parameters()] == [(1, 4000)]
    assert head.linear.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_a_template_is_read_at_each_inputs_mask() -> None:
    hidden = torch.cat([torch.zeros_like(HIDDEN), HIDDEN], dim=1)
    two = torch.ones(5, 2, dtype=torch.int64)
    batch = replace(BATCH, input_ids=two, attention_mask=two, mask_at=torch.ones(5).long())
    output = made("mask")(hidden, batch)
    assert output.loss.item() == pytest.approx(made()(HIDDEN, BATCH).loss.item())


def test_a_batch_without_choices_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a batch with choices"):
        made()(HIDDEN, replace(BATCH, choices=None))
