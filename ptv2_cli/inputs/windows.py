"""Cutting what is longer than the model into overlapping windows, and who reads what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def token_windows(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Windows [start, end) of at most `room` tokens that cover `length` tokens.

    Neighbours share `stride` tokens, at most half a window. There is at least one window.
    """
    step = room - min(stride, room // 2)
    windows = [(0, min(room, length))]
    while windows[-1][1] < length:
        start = windows[-1][0] + step
        windows.append((start, min(start + room, length)))
    return windows


def word_windows(lengths: Sequence[int], room: int, stride: int) -> list[tuple[int, int]]:
    """Windows [first, last) of whole words, `lengths` tokens each, none longer than `room`.

    A window holds as many words as fit into `room` tokens; the next one begins at most
    `stride` tokens (and at most half a window) before its end, and always goes further.
    """
    ends = list(accumulate(lengths, initial=0))
    count = len(lengths)
    windows: list[tuple[int, int]] = []
    first = last = 0
    while last < count or not windows:
        while last < count and ends[last + 1] - ends[first] <= room:
            last += 1
        windows.append((first, last))
        if last < count:
            first = last
            allowed = min(stride, room // 2, room - lengths[last])
            while first > 0 and ends[last] - ends[first - 1] <= allowed:
                first -= 1
    return windows


def readers(lengths: Sequence[int], windows: Sequence[tuple[int, int]]) -> list[int]:
    """For each word the index of the window that reads it: where it has most context.

    Context is the smaller number of tokens on its two sides; the earlier of equal windows.
    """
    ends = list(accumulate(lengths, initial=0))
    best = [-1] * len(lengths)
    chosen = [0] * len(lengths)
    for index, (first, last) in enumerate(windows):
        for word in range(first, last):
            context = min(ends[word] - ends[first], ends[last] - ends[word + 1])
            if context > best[word]:
                best[word], chosen[word] = context, index
    return chosen
