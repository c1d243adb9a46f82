#!/usr/bin/env python3
"""How much a search gives away against a grid that is known, by replaying recorded scores.

    python benchmarks/search.py [--runs FOLDER] [--seeds 10] [--out FILE]

Regret is the best score of the grid less the best that a search has found, in points, after as
much training as 10, 20 and 40 whole runs take; mean over seeds, with its standard error. The
searches are those of `ptv2 sweep --search`, one setting at a time, over the ends of the grid's two
lists, on the logarithmic scale. A setting between the grid's cells scores as linear interpolation
between its neighbours says, in the logarithms of prompt length and learning rate; `cells` are
searches among the grid's own cells.

Without --runs the scores are the table of docs/grid.md: one score a cell, so nothing can be pruned.
With --runs they are the evaluations of recorded runs, which `ptv2 sweep configs/grid-conll2004.yaml
--lanes 6 --set task.data=FOLDER --output FOLDER` leaves, and pruning is replayed too: an evaluation
counts as its share of a run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptv2_cli.sweeps.axes import Axis
from ptv2_cli.sweeps.search_options import SearchOptions
from ptv2_cli.sweeps.study import Study

ROOT = Path(__file__).resolve().parents[1]
Cells = dict[tuple[int, float], list[float]]
"""Prompt length and learning rate -> the score at each evaluation."""
BUDGETS = (10, 20, 40)
SIDES = [("random", None), ("tpe", None), ("tpe", "median"), ("tpe", "hyperband")]


def main() -> None:
    """Replay every side and print the table."""
    parser = argparse.ArgumentParser(description="Regret of searches on recorded scores.")
    parser.add_argument("--runs", type=Path, help="folder of the runs of a recorded grid")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write the regrets as JSON")
    given = parser.parse_args()
    os.fsync = lambda descriptor: None  # the journals are thrown away
    cells = recorded(given.runs) if given.runs else published()
    evaluations = len(next(iter(cells.values())))
    best = max(map(max, cells.values()))
    print(f"{len(cells)} cells of {evaluations} evaluations; the best scores {best:.1f}")
    print("| space | search | prune | " + " | ".join(f"after {n}" for n in BUDGETS) + " |")
    print("|---|---|---|" + "---:|" * len(BUDGETS))
    found = []
    for space in ("between", "cells"):
        for search, prune in SIDES if evaluations > 1 else SIDES[:2]:
            rows = [replayed(cells, space, search, prune, seed) for seed in range(given.seeds)]
            regrets = [[best - row[n] for row in rows] for n in range(len(BUDGETS))]
            shown = " | ".join(map(told, regrets))
            print(f"| {space} | {search} | {prune or '-'} | {shown} |", flush=True)
            found.append({"space": space, "search": search, "prune": prune, "regrets": regrets})
    if given.out:
        given.out.write_text(json.dumps({"best": best, "budgets": BUDGETS, "sides": found}))


def told(values: Sequence[float]) -> str:
    """A mean and its standard error."""
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.2f} ± {spread:.2f}"


def replayed(cells: Cells, space: str, search: str, prune: str | None, seed: int) -> list[float]:
    """The best score that one search has found after each budget."""
    lengths, rates = axes(cells)
    if space == "cells":
        keys = [Axis(("prompt_len",), lengths, "", ""), Axis(("train", "lr"), rates, "", "")]
    else:
        keys = [
            Axis(("prompt_len",), (lengths[0], lengths[-1]), "", "", scale="log"),
            Axis(("train", "lr"), (rates[0], rates[-1]), "", "", scale="log"),
        ]
    evaluations = len(next(iter(cells.values())))
    spent, best = 0.0, -math.inf
    after: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        options = SearchOptions(search, None, prune)
        study = Study(
            Path(folder), options, keys, mode="max", seed=seed, evaluations=evaluations,
            name=f"replay-{seed}",
        )  # fmt: skip
        while len(after) < len(BUDGETS):
            asked = study.ask()
            if asked is None:  # every cell was tried
                return after + [best] * (len(BUDGETS) - len(after))
            length, rate = asked.values
            curve = interpolated(cells, length, rate)
            state = "finished"
            for evaluation, score in enumerate(curve, 1):
                spent += 1 / evaluations
                study.report(asked.number, evaluation, score)
                if study.gives_up(asked.number) and evaluation < evaluations:
                    state = "pruned"
                    break
            study.tell(asked.number, state, max(curve) if state == "finished" else None)
            best = max(best, max(curve)) if state == "finished" else best
            while len(after) < len(BUDGETS) and spent >= BUDGETS[len(after)] - 1e-6:
                after.append(best)
    return after


def axes(cells: Cells) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The grid's prompt lengths and learning rates, ascending."""
    return tuple(sorted({n for n, _ in cells})), tuple(sorted({rate for _, rate in cells}))


def interpolated(cells: Cells, length: int, rate: float) -> list[float]:
    """The curve of a setting, linear between the grid's cells in both logarithms."""
    lengths, rates = axes(cells)
    (i, x), (j, y) = _between(lengths, length), _between(rates, rate)
    corners = [
        ((1 - x) * (1 - y), cells[lengths[i], rates[j]]),
        (x * (1 - y), cells[lengths[i + 1], rates[j]]),
        ((1 - x) * y, cells[lengths[i], rates[j + 1]]),
        (x * y, cells[lengths[i + 1], rates[j + 1]]),
    ]
    return [sum(weight * curve[n] for weight, curve in corners) for n in range(len(corners[0][1]))]


def _between(values: Sequence[float], value: float) -> tuple[int, float]:
    """The position of the value below, and the share of the way to the next."""
    i = min(max(bisect_right(values, value) - 1, 0), len(values) - 2)
    low, high = math.log(values[i]), math.log(values[i + 1])
    return i, min(1.0, max(0.0, (math.log(value) - low) / (high - low)))


def published() -> Cells:
    """The table of docs/grid.md."""
    text = (ROOT / "docs" / "grid.md").read_text(encoding="utf-8")
    rates = [float(rate) for rate in re.findall(r"lr (\S+) \|", text)]
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", text, flags=re.M)
    return {
        (int(length), rate): [float(score.strip(" *"))]
        for length, rest in rows
        for rate, score in zip(rates, rest.split("|"), strict=False)
    }


def recorded(folder: Path) -> Cells:
    """The curves of all finished runs of a folder, in points."""
    cells: Cells = {}
    for path in sorted(folder.glob("*/metrics.json")):
        metrics = json.loads(path.read_text())
        lines = (path.parent / "history.jsonl").read_text().splitlines()
        metric = metrics["selection"]["metric"]
        key = (int(metrics["prompt_len"]), float(metrics["config"]["train"]["lr"]))
        cells[key] = [100 * json.loads(line)["metrics"][metric] for line in lines]
    lengths, rates = axes(cells)
    if len(cells) != len(lengths) * len(rates) or len(set(map(len, cells.values()))) != 1:
        sys.exit(f"{folder}: the finished runs are no whole grid of runs of one length")
    return cells


if __name__ == "__main__":
    main()
