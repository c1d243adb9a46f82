#!/usr/bin/env python3
"""Processor seconds to score written texts, beside the packages' own corpus functions.

    python benchmarks/scoring.py [--rows 1000] [--rounds 3]

`ptv2` gives all seven scores of `text/generation`, their standard errors and the perplexity;
`packages` is sacrebleu's corpus_bleu and corpus_chrf and rouge-score's mean over rows, without
errors. Texts are those of the restaurants set, a third of whose words are left out; `long` puts
four of them together. The sides take turns, the figure is the median of the rounds, and the scores
must be equal.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice, zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
Rows = list[tuple[str, list[str]]]
"""Texts, each with the right ones."""


def main() -> int:
    """Measure and print a line for each kind of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'processor seconds':26}{'ptv2':>8}{'packages':>10}")
    for name, right, parts in (("1 right text", 1, 1), ("up to 4", 4, 1), ("up to 4, long", 4, 4)):
        rows = made(options.rows, right, parts)
        taken: dict[Callable[[Rows], dict[str, float]], list[float]] = {ours: [], theirs: []}
        ours(rows[:2]), theirs(rows[:2])  # what is imported, and stems that are kept
        for _ in range(options.rounds):
            for side, seconds in taken.items():
                start = time.process_time()
                scores = side(rows)
                seconds.append(time.process_time() - start)
                if side is theirs:
                    compare(ours(rows), scores)
        medians = [statistics.median(seconds) for seconds in taken.values()]
        print(f"{f'{len(rows)} rows, {name}':26}{medians[0]:8.2f}{medians[1]:10.2f}")
    return 0


def made(count: int, right: int, parts: int) -> Rows:
    """Rows with at most `right` right texts, each of `parts` descriptions."""
    draw = random.Random(1)
    path = ROOT / "configs" / "data" / "restaurants" / "val.jsonl"
    lines = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    rows: Rows = []
    for texts in islice(cycle(lines), count):
        whole = [" ".join([text, *draw.choice(lines)[: parts - 1]]) for text in texts[:right]]
        words = draw.choice(texts).split() * parts
        rows.append((" ".join(word for word in words if draw.random() > 1 / 3), whole))
    return rows


def ours(rows: Rows) -> dict[str, float]:
    """All scores of ptv2."""
    from ptv2_cli.tasks.catalog import load_task

    task: Any = load_task("text/generation", {})
    found = task.score(
        [{"output": right} for _, right in rows], [{"text": text} for text, _ in rows]
    )
    return dict(found.metrics)


def theirs(rows: Rows) -> dict[str, float]:
    """BLEU, chrF and ROUGE by the packages."""
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    texts = [text for text, _ in rows]
    streams = [list(stream) for stream in zip_longest(*(right for _, right in rows))]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    rouge = [scorer.score_multi(right, text) for text, right in rows]
    return {
        "bleu": sacrebleu.corpus_bleu(texts, streams).score / 100,
        "chrf": sacrebleu.corpus_chrf(texts, streams).score / 100,
    } | {
        ours: statistics.fmean(row[name].fmeasure for row in rouge)
        for ours, name in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL"))
    }


def compare(one: dict[str, float], other: dict[str, float]) -> None:
    """Stop unless both sides gave the same scores."""
    for name, value in other.items():
        # rouge-score drops the accent of Café together with its letter.
        if abs(one[name] - value) > (1e-3 if name.startswith("rouge") else 1e-9):
            raise SystemExit(f"{name}: {one[name]} and {value}")


if __name__ == "__main__":
    raise SystemExit(main())
