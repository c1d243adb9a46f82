from __future__ import annotations

import random
from itertools import pairwise

import pytest

from ptv2_cli.inputs.windows import readers, token_windows, word_windows


@pytest.mark.parametrize(
    ("length", "room", "stride", "expected"),
    [
        (0, 5, 2, [(0, 0)]),
        (5, 5, 2, [(0, 5)]),
        (6, 5, 2, [(0, 5), (3, 6)]),
        (12, 5, 2, [(0, 5), (3, 8), (6, 11), (9, 12)]),
        (12, 6, 99, [(0, 6), (3, 9), (6, 12)]),
        (3, 1, 1, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_token_windows(
    length: int, room: int, stride: int, expected: list[tuple[int, int]]
) -> None:
    assert token_windows(length, room, stride) == expected


def test_word_windows_cover_every_word_and_fit() -> None:
    draw = random.Random(7)
    for _ in range(300):
        room, stride = draw.randint(1, 12), draw.randint(0, 12)
        lengths = [draw.randint(1, room) for _ in range(draw.randint(1, 25))]
        windows = word_windows(lengths, room, stride)
        assert {word for first, last in windows for word in range(first, last)} == set(
            range(len(lengths))
        )
        assert all(sum(lengths[first:last]) <= room for first, last in windows)
        starts, ends = zip(*windows, strict=True)
        assert sorted(set(starts)) == list(starts)
        assert sorted(set(ends)) == list(ends)
        for (_, end), (start, _) in pairwise(windows):
            assert sum(lengths[start:end]) <= min(stride, room // 2)


def test_a_word_is_read_where_it_has_most_context() -> None:
    lengths = [1] * 8
    windows = word_windows(lengths, room=6, stride=3)
    assert windows == [(0, 6), (3, 8)]
    # Word 4 has one token on its right in the first window and one on its left in the second.
    assert readers(lengths, windows) == [0, 0, 0, 0, 0, 1, 1, 1]


def test_context_is_counted_in_tokens() -> None:
    lengths = [1, 1, 1, 1, 4, 1]
    windows = [(0, 4), (2, 6)]
    assert readers(lengths, windows) == [0, 0, 0, 1, 1, 1]
