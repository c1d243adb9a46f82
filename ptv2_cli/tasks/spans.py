"""Answers as spans of a context: which tokens they are in training, and the best ones predicted."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ptv2_cli.data.rows import Row
from ptv2_cli.inputs.features import Feature
from ptv2_cli.scoring.scores import Array, Prediction


def visible_spans(context: str, offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The characters [start, end) that each token adds to an answer [n, 2]; (-1, -1): none.

    White space around a token is left out: some tokenizers count the space before a word as the
    word's. Combining marks that no token holds (uncased models drop accents) belong to the
    letter before them.
    """
    size = len(context)
    codes = np.frombuffer(context.encode("utf-32-le", "surrogatepass"), np.uint32)
    letters = set(context)
    space = np.isin(codes, [ord(letter) for letter in letters if letter.isspace()])
    mark = np.isin(codes, [ord(letter) for letter in letters if _is_mark(letter)])
    count = np.zeros(size + 1, np.int64)
    np.add.at(count, offsets[:, 0], 1)
    np.subtract.at(count, offsets[:, 1], 1)
    held = np.cumsum(count)[:size] > 0
    at = np.arange(size)
    start, end = offsets[:, 0].astype(np.int64), offsets[:, 1].astype(np.int64)
    start = np.minimum(_next(~space)[start], end)
    # The place after the last character that is no space, before each place.
    after = np.concatenate([[0], np.maximum.accumulate(np.where(space, 0, at + 1))])
    end = np.maximum(after[end], start)
    seen = start < end
    end = np.where(seen, _next(held | ~mark)[end], end)
    return np.where(seen[:, None], np.stack([start, end], axis=1), -1).astype(np.int32)


def _next(wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The first wanted place from each of n places on, [n + 1]; n where there is none."""
    size = len(wanted)
    places = np.append(np.where(wanted, np.arange(size), size), size)
    return np.minimum.accumulate(places[::-1])[::-1]


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def answer_tokens(row: Row, spans: npt.NDArray[np.int32]) -> tuple[int, int] | None:
    """First and last token [inclusive] of the row's first answer; None if it has none."""
    if not row.get("answers"):
        return None
    answer = row["answers"][0]
    start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    inside = np.flatnonzero((spans[:, 0] >= 0) & (spans[:, 0] < end) & (spans[:, 1] > start))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


NEVER = 1e9
"""`null_score` of a context without a single token: nothing can be answered."""


def span_scores(
    feature: Feature, output: Mapping[str, Array], n_best: int, longest: int
) -> dict[tuple[int, int], float]:
    """Scores start + end of a window's `n_best` best spans, by characters [start, end).

    Every span of at most `longest` tokens is looked at: row d of a band matrix holds the
    scores of the spans whose end is d tokens after their start. Several token spans can stand
    for the same characters, where one character is several tokens: the best of them counts.
    """
    offsets = feature.offsets or []
    visible = np.array([index for index, span in enumerate(offsets) if span is not None], dtype=int)
    if not visible.size:
        return {}
    starts = output["start"][visible].astype(np.float64)
    ends = output["end"][visible].astype(np.float64)
    count = len(visible)
    band = np.full((min(longest, count), count), -np.inf)
    for distance in range(len(band)):
        band[distance, : count - distance] = starts[: count - distance] + ends[distance:]
    flat = band.ravel()
    looked_at = n_best
    while True:
        by_span: dict[tuple[int, int], float] = {}
        for cell in np.argpartition(-flat, min(looked_at, flat.size) - 1)[:looked_at]:
            if np.isfinite(flat[cell]):
                distance, first = divmod(int(cell), count)
                begin, end = offsets[visible[first]], offsets[visible[first + distance]]
                assert begin is not None
                assert end is not None
                span = begin[0], end[1]
                by_span[span] = max(float(flat[cell]), by_span.get(span, -np.inf))
        if len(by_span) >= n_best or looked_at >= flat.size:
            break
        looked_at *= 4  # some were the same characters again
    best = sorted(by_span, key=lambda span: (-by_span[span], span))[:n_best]
    return {span: by_span[span] for span in best}


def answer_line(
    context: str,
    windows: Sequence[tuple[Feature, Mapping[str, Array]]],
    n_best: int,
    longest: int,
    threshold: float | None,
) -> Prediction:
    """A question's prediction line from all of its windows.

    With a `threshold` (SQuAD 2.0), no answer scores the lowest start + end at [CLS] over the
    windows; `null_score` is how far that exceeds the best span, and the answer is "" when it
    is above the threshold. Probabilities are a softmax over the n best and no answer.
    """
    scores: dict[tuple[int, int], float] = {}
    for feature, output in windows:
        for span, score in span_scores(feature, output, n_best, longest).items():
            scores[span] = max(score, scores.get(span, -np.inf))
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:n_best]
    entries: list[dict[str, Any]] = [
        {"text": context[start:end], "start": start, "probability": score}
        for (start, end), score in ranked
    ]
    chosen = entries[0] if entries else None
    line: Prediction = {}
    if threshold is not None:
        null = min(
            float(out["start"][f.cls_at]) + float(out["end"][f.cls_at]) for f, out in windows
        )
        nothing = {"text": "", "start": None, "probability": null}
        difference = null - entries[0]["probability"] if entries else NEVER
        if difference > threshold:
            chosen = nothing
        entries = sorted([*entries, nothing], key=lambda entry: -entry["probability"])
        line["null_score"] = difference
    weights = np.exp([entry["probability"] - entries[0]["probability"] for entry in entries])
    for entry, weight in zip(entries, weights / weights.sum() if entries else (), strict=True):
        entry["probability"] = float(weight)
    chosen = chosen or {"text": "", "start": None, "probability": 0.0}
    return {
        "answer": chosen["text"],
        "start": chosen["start"],
        "probability": chosen["probability"],
        "nbest": entries,
    } | line
