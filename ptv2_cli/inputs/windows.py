"""Cutting what is longer than the model into overlapping windows, and who reads what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from ptv2_cli.inputs.ragged import Ragged, bounds, places

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """W windows of whole words over sentences; words are counted through all sentences."""

    rows: Numbers
    """[W]: the sentence of each."""
    first: Numbers
    """[W]: its first word."""
    last: Numbers
    """[W]: the word after its last."""
    reader: Numbers
    """The window that reads each word [words]."""

    def read(self) -> tuple[Numbers, Numbers]:
        """Window and word, wherever a window reads a word."""
        lengths = self.last - self.first
        words = places(self.first, lengths)
        windows = np.repeat(np.arange(len(self.rows)), lengths)
        is_read = self.reader[words] == windows
        return windows[is_read], words[is_read]


def cut_windows(pieces: Ragged, counts: Numbers, rooms: Numbers, stride: int) -> Windows:
    """Cut sentences that are too long; see `word_windows` and `readers`.

    Args:
        pieces: the tokens of every word of all sentences, no word longer than a window.
        counts: words of each sentence [R].
        rooms: tokens that a window of each sentence holds [R].
        stride: tokens that neighbouring windows share.
    """
    words = bounds(counts)
    cut: dict[int, tuple[list[tuple[int, int]], list[int]]] = {}
    for row in np.flatnonzero(np.diff(pieces.starts[words]) > rooms).tolist():
        lengths = pieces.lengths[words[row] : words[row + 1]].tolist()
        spans = word_windows(lengths, int(rooms[row]), stride)
        cut[row] = spans, readers(lengths, spans)
    windows_of_row = np.ones(len(counts), np.int64)
    windows_of_row[list(cut)] = [len(spans) for spans, _ in cut.values()]
    rows = np.repeat(np.arange(len(counts)), windows_of_row)
    first_window = bounds(windows_of_row)[:-1]
    first, last = words[:-1][rows], words[1:][rows]
    reader = np.repeat(first_window, counts)
    for row, (spans, chosen) in cut.items():
        at = slice(first_window[row], first_window[row] + len(spans))
        first[at], last[at] = words[row] + np.array(spans).T
        reader[words[row] : words[row + 1]] += np.array(chosen)
    return Windows(rows, first, last, reader)


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
