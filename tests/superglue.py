"""Small data sets in the official formats of SuperGLUE, written in the words of tests/tiny.py.

Each is learnable: right is what names ann (COPA: the choice; WiC, WSC: the texts; MultiRC: the
answer; ReCoRD: the entity in the gap).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLAIN = ["a", "cat", "dog", "sat", "ran", "on", "in", "mat", "box", "red", "big", "old"]
OTHERS = ("bob", "carl", "dora")

Rows = list[dict[str, Any]]


def copa(count: int, source: random.Random) -> Rows:
    rows = []
    for at in range(count):
        label = source.randrange(2)
        choices = [f"{'ann' if label == place else 'bob'} {_text(source)}" for place in range(2)]
        rows.append(
            {
                "premise": _text(source),
                "choice1": choices[0],
                "choice2": choices[1],
                "question": source.choice(["cause", "effect"]),
                "label": label,
                "idx": at,
            }
        )
    return rows


def wic(count: int, source: random.Random) -> Rows:
    rows = []
    for at in range(count):
        label = at % 2 == 0
        name = "ann " * 3 if label else "bob " * 3
        first, second = f"{name}box", f"{name}box {_text(source)}"
        rows.append(
            {
                "word": "box",
                "sentence1": first,
                "sentence2": second,
                "idx": at,
                "label": label,
                "start1": len(first) - 3,
                "end1": len(first),
                "start2": second.index("box"),
                "end2": second.index("box") + 3,
                "version": 1.1,
            }
        )
    return rows


def wsc(count: int, source: random.Random) -> Rows:
    rows = []
    for at in range(count):
        label = at % 2 == 0
        name = "ann" if label else source.choice(OTHERS)
        text = f"{name} {_text(source)} then it ran"
        target = {
            "span1_index": 0,
            "span1_text": name,
            "span2_index": len(text.split()) - 2,
            "span2_text": "it",
        }
        rows.append({"text": text, "target": target, "idx": at, "label": label})
    return rows


def multirc(count: int, source: random.Random) -> Rows:
    """`count` passages of two questions with two or three answers."""
    rows = []
    for at in range(count):
        questions = []
        for place in range(2):
            answers = [
                {"text": f"{name} " * 3 + name, "idx": index, "label": int(name == "ann")}
                for index, name in enumerate(
                    source.choices(("ann", *OTHERS), k=2 + (at + place) % 2)
                )
            ]
            asked = ("who is it ?", "who sat there ?")[place]
            questions.append({"question": asked, "idx": 2 * at + place, "answers": answers})
        passage = {"text": _text(source), "questions": questions}
        rows.append({"version": 1.1, "idx": at, "passage": passage})
    return rows


def record(count: int, source: random.Random) -> Rows:
    """`count` passages of two queries on two or three entities, ann always among them."""
    rows = []
    for at in range(count):
        names = ["ann", *source.sample(OTHERS, k=1 + at % 2)]
        source.shuffle(names)
        text = " ".join(f"{name} {source.choice(PLAIN)}" for name in names)
        text += f" {names[at % 2]} ran"
        spans = [
            {"start": text.index(name), "end": text.index(name) + len(name) - 1} for name in names
        ]
        answers = [{**spans[names.index("ann")], "text": "ann"}]
        queries = [
            {"query": f"@placeholder {_text(source)}", "answers": answers, "idx": 2 * at + place}
            for place in range(2)
        ]
        passage = {"text": text, "entities": spans}
        rows.append({"source": "made", "passage": passage, "qas": queries, "idx": at})
    return rows


MAKERS: dict[str, Callable[[int, random.Random], Rows]] = {
    "copa": copa,
    "wic": wic,
    "wsc": wsc,
    "multirc": multirc,
    "record": record,
}


def write(folder: Path, task: str, train: int = 48, validation: int = 16) -> Path:
    """The official files of a task, train.jsonl and val.jsonl."""
    source = random.Random(12)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("val", validation)):
        put(folder / f"{name}.jsonl", MAKERS[task](count, source))
    return folder


def put(path: Path, rows: Rows) -> Path:
    """Write rows as jsonl."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def unlabelled(task: str, row: dict[str, Any]) -> dict[str, Any]:
    """An official row as the test files have it."""
    row = json.loads(json.dumps(row))
    row.pop("label", None)
    for question in row.get("passage", {}).get("questions", ()) if task == "multirc" else ():
        for answer in question["answers"]:
            del answer["label"]
    for query in row.get("qas", ()):
        del query["answers"]
    return row


def _text(source: random.Random) -> str:
    return " ".join(source.choices(PLAIN, k=source.randint(2, 5)))
