"""A small data set of every kind of task: train and validation files and the config's `task:`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import conll_files
import superglue
import tiny

WORDS = tiny.WORDS[:8]


def jsonl(folder: Path, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> None:
    """Rows of both splits."""
    folder.mkdir(exist_ok=True)
    superglue.put(folder / "train.jsonl", train)
    superglue.put(folder / "val.jsonl", validation)


def classification(folder: Path) -> dict[str, Any]:
    tiny.write_rte(folder)
    return {"name": "superglue/rte"}


def own(folder: Path) -> dict[str, Any]:
    rows = [{"text": f"{word} sat", "label": "xy"[at % 2]} for at, word in enumerate(WORDS)]
    jsonl(folder, rows, rows[:4])
    return {"name": "text/classification"}


def regression(folder: Path) -> dict[str, Any]:
    rows = [{"text": f"{word} sat on the mat", "label": at} for at, word in enumerate(WORDS)]
    jsonl(folder, rows, rows[:4])
    return {"name": "text/regression"}


def choice(folder: Path) -> dict[str, Any]:
    tiny.write_choice(folder)
    return {"name": "text/choice"}


def tagging(folder: Path) -> dict[str, Any]:
    tiny.write_ner(folder)
    return {"name": "ner/conll2003"}


def qa(folder: Path) -> dict[str, Any]:
    tiny.write_squad(folder, impossible=True)
    return {"name": "qa/squad_v2"}


def roles(folder: Path) -> dict[str, Any]:
    conll_files.write_2005(folder, 12, 12, brown=False)
    return {"name": "srl/conll2005"}


def cloze(folder: Path) -> dict[str, Any]:
    superglue.write(folder, "record")
    return {"name": "superglue/record"}


def answers(folder: Path) -> dict[str, Any]:
    superglue.write(folder, "multirc")
    return {"name": "superglue/multirc"}


KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    made.__name__: made
    for made in (classification, own, regression, choice, tagging, qa, roles, cloze, answers)
}
