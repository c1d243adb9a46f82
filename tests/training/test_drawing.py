"""Tokens that are drawn: by their probabilities, and for each row by itself."""

from __future__ import annotations

import torch

from ptv2_cli.backbones.sites import PlainBatch
from ptv2_cli.training.drawing import Drawing

SCORES = torch.tensor([0.0, 2.0, 1.0, -torch.inf, 0.5])


def batch(*texts: list[int]) -> PlainBatch:
    width = max(map(len, texts))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    return PlainBatch(ids, mask)


def drawn(drawing: Drawing, texts: PlainBatch, steps: int) -> list[list[int]]:
    processors = drawing.processors(texts)
    scores = SCORES.expand(len(texts.input_ids), -1)
    found = [processors(texts.input_ids, scores).argmax(dim=1) for _ in range(steps)]
    rows: list[list[int]] = torch.stack(found, dim=1).tolist()
    return rows


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    (row,) = drawn(Drawing(seed=3, temperature=0.8), batch([7, 8]), 4000)
    shares = torch.bincount(torch.tensor(row), minlength=5) / 4000
    assert torch.allclose(shares, (SCORES / 0.8).softmax(dim=0), atol=0.03)
    assert shares[3] == 0


def test_only_the_likeliest_are_drawn_if_the_config_says_so() -> None:
    assert set(drawn(Drawing(seed=3, top_k=2), batch([7]), 200)[0]) == {1, 2}
    assert set(drawn(Drawing(seed=3, top_p=0.3), batch([7]), 50)[0]) == {1}


def test_a_row_draws_the_same_beside_others() -> None:
    drawing = Drawing(seed=3)
    (alone,) = drawn(drawing, batch([7, 8]), 20)
    beside = drawn(drawing, batch([5, 5, 5], [7, 8], [9]), 20)
    assert beside[1] == alone
    assert beside[0] != alone
    assert drawn(Drawing(seed=4), batch([7, 8]), 20) != [alone]
