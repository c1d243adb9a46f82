"""Inventories of runs for tests of pages: a small one of every kind, and one of 500 runs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from made import unfinished, write

LABELS = ("entailment", "contradiction", "neutral")
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"


def label_line(
    at: int, gold: str, guess: str, chance: float = 0.7, labels: tuple[str, ...] = LABELS
) -> dict[str, Any]:
    """A line of predictions of a task of labels."""
    rest = (1 - chance) / (len(labels) - 1)
    shares = {label: chance if label == guess else rest for label in labels}
    texts = {"premise": f"premise {at}", "hypothesis": f"hypothesis {at}", "idx": at}
    return {**texts, "label": guess, "probabilities": shares, "gold": gold}


def cb(folder: Path, wrong: tuple[int, ...] = (), **made: Any) -> Path:
    """A run of CB of six rows, some of which are wrong."""
    lines = []
    for at in range(6):
        gold = LABELS[at % 3]
        lines.append(label_line(at, gold, LABELS[(at + 1) % 3] if at in wrong else gold))
    return write(folder, lines=lines, score=1 - len(wrong) / 6, **made)


def a_few(folder: Path) -> None:
    """Two methods, two lengths, two rates, two seeds, two tasks, an unfinished run."""
    for seed in (11, 12):
        cb(folder, (1, 4), seed=seed, history=[0.3, 0.5, 0.7], losses=[(1.0, 0.9)] * 3)
        cb(folder, (0,), seed=seed, prompt_len=100, train__lr=0.03, history=[0.6, 0.8])
    cb(folder, (0, 2, 4), train__lr=0.03, history=[0.4, 0.5])
    cb(folder, (1, 2, 3, 4), prompt_len=100, history=[0.2, 0.3])
    cb(folder, (0, 1, 2), method="finetune", prompt_len=None, percent=100.0, trainable=10_000,
       history=[0.5])  # fmt: skip
    tags = {"tokens": ["Ann", "lives", "here"], "gold": ["B-PER", "O", "O"], "entities": []}
    lines = [{**tags, "tags": ["O", "O", "O"]}, {**tags, "tags": ["B-PER", "O", "O"]}]
    write(folder, task="ner/conll2003", lines=lines, rows=2, score=0.6, history=[0.5, 0.6])
    unfinished(folder)


def hostile(folder: Path) -> None:
    """Runs whose rows, labels, names and settings hold markup."""
    labels = (HOSTILE, "b")
    options = {"text": ["text"], "label": "label", "labels": list(labels)}
    task = {f"task__{key}": value for key, value in options.items()}
    for seed in (11, 12):
        line = label_line(0, labels[0], "b", labels=labels)
        line["premise"] = f"{HOSTILE} \u202e <!-- \ud83d\ude00"
        detail = {"confusion": {HOSTILE: {HOSTILE: 0, "b": 1}, "b": {HOSTILE: 0, "b": 0}}}
        write(folder, task="text/classification", lines=[line], rows=1, seed=seed, detail=detail,
              name=f"run<b>{seed}&amp;", history=[0.5, 0.6], method__init=f"{HOSTILE}{seed}",
              **task)  # fmt: skip


def five_hundred(folder: Path) -> None:
    """500 runs: five tasks, two methods, five lengths, five rates, two seeds; 120 rows each."""
    drawn = random.Random(1)
    for task in range(5):
        golds = [drawn.choice(LABELS) for _ in range(120)]
        for method in ("ptuning_v2", "prompt_tuning"):
            for length in (5, 10, 20, 50, 100):
                for rate in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1):
                    for seed in (11, 12):
                        rows = []
                        for at, gold in enumerate(golds):
                            guess = gold if drawn.random() < 0.7 else drawn.choice(LABELS)
                            line = label_line(at, gold, guess, round(drawn.uniform(0.4, 1), 4))
                            rows.append({**line, "premise": f"{at} " + "words of a premise " * 12})
                        right = sum(row["label"] == row["gold"] for row in rows) / len(rows)
                        curve = [right - 0.3 / (epoch + 1) for epoch in range(20)]
                        write(folder, task="superglue/cb", data=str(task) * 64, rows=120,
                              method=method, prompt_len=length, train__lr=rate, seed=seed,
                              score=right, standard_error=0.04, lines=rows, history=curve,
                              losses=[(1 / (at + 1), 1.2 / (at + 1)) for at in range(20)],
                              task__data=f"/data/set{task}")  # fmt: skip
