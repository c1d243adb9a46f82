"""The restaurants set: made again byte for byte, texts that say their facts, disjoint names."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts" / "data"
DATA = ROOT / "configs" / "data" / "restaurants"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location(f"data_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(split: str) -> list[dict[str, Any]]:
    lines = (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def facts(row: dict[str, Any]) -> dict[str, str]:
    return dict(part.split(": ", 1) for part in row["facts"].split(" | "))


def texts(row: dict[str, Any]) -> list[str]:
    return [row["text"]] if isinstance(row["text"], str) else row["text"]


def test_made_again_byte_for_byte(tmp_path: Path) -> None:
    script = SCRIPTS / "make_restaurants.py"
    subprocess.run([sys.executable, str(script), "--out", str(tmp_path)], check=True)
    for split in ("train", "val"):
        made = (tmp_path / f"{split}.jsonl").read_bytes()
        assert made == (DATA / f"{split}.jsonl").read_bytes()


def test_sizes() -> None:
    assert len(rows("train")) == 1000
    assert len(rows("val")) == 200
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 400_000
    for split in ("train", "val"):
        assert len({row["facts"] for row in rows(split)}) == len(rows(split))
    assert all(isinstance(row["text"], str) for row in rows("train"))
    counts = Counter(len(row["text"]) for row in rows("val"))
    assert set(counts) == {2, 3, 4}
    assert all(len(set(row["text"])) == len(row["text"]) for row in rows("val"))


def test_names_of_one_split_are_in_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    made = load("make_restaurants", monkeypatch)
    names, words = {}, {}
    for split in ("train", "val"):
        found = [facts(row) for row in rows(split)]
        names[split] = {one for row in found for one in (row["name"], row.get("near")) if one}
        words[split] = {
            word.removesuffix("'s").removesuffix("'")
            for name in names[split]
            for word in name.split()
        } - {*made.SHARED, "Port", "Saint", "Bay"}
    assert len(names["val"]) > 100
    assert not words["train"] & words["val"]
    for split, other in (("train", "val"), ("val", "train")):
        written = " ".join(text for row in rows(split) for text in texts(row))
        assert not words[other] & set(re.findall(r"[^\W\d_]+", written))


@pytest.mark.parametrize("split", ["train", "val"])
def test_texts_say_each_fact_once(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = load("restaurant_texts", monkeypatch)
    for row in rows(split):
        said = facts(row)
        for text in texts(row):
            assert said["name"] in text
            assert ("near" in said) == (said.get("near", "-none-") in text)
            for name, wording in {"area": ways.AREAS, "food": ways.FOODS}.items():
                low = text.lower()
                spoken = {v for v, ways_ in wording.items() if any(w.lower() in low for w in ways_)}
                kinds = {said[name]} if name in said else set()
                if name == "food":  # a Thai restaurant
                    spoken |= {value for value in wording if value in text}
                assert spoken == kinds, (row, text)
            for name in ("price", "family friendly", "rating"):
                spoken = {
                    value
                    for source in (ways.BEFORE_NOUN, ways.VERBS, ways.CLAUSES)
                    for value, all_ in source[name].items()
                    if any(re.search(rf"\b{re.escape(way)}\b", text, re.I) for way in all_)
                }
                assert said.get(name) in (spoken or {None}), (row, text)
            assert re.fullmatch(r"[A-ZÉ].*\.", text)
            assert "  " not in text
            assert "{" not in text


def test_texts_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = Counter()
    for row in rows("train"):
        said, text = facts(row), row["text"]
        for name in ("near", "name"):
            text = text.replace(said.get(name, "\0"), name.upper())
        shapes[text] += 1
    assert len(shapes) > 900
    firsts = Counter(row["text"].split(".")[0].split(" ")[0] for row in rows("train"))
    assert len(firsts) > 10
    sentences = Counter(row["text"].count(". ") + 1 for row in rows("train"))
    assert min(sentences[count] for count in (1, 2, 3)) > 100
    text = " ".join(row["text"] for row in rows("train"))
    for word in (" but ", " and ", " that ", "It ", "The place ", "There is "):
        assert text.count(word) > 30, word
