"""The committed data sets: made again byte for byte, the right size, and disjoint across splits."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts" / "data"
DATA = ROOT / "configs" / "data"
FILES = {
    "entailment": {"train": "train.jsonl", "dev": "val.jsonl"},
    "ner": {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"},
    "qa": {"train": "train.json", "dev": "dev.json"},
    "choice": {"train": "train.jsonl", "dev": "val.jsonl"},
}
PAIRS = [(name, *pair) for name, files in FILES.items() for pair in permutations(files, 2)]


def _load_common() -> Any:
    spec = importlib.util.spec_from_file_location("data_common", SCRIPTS / "common.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


common = _load_common()
GENERIC: set[str] = {form for word in common.GENERIC_HEADS for form in (word, word.upper())}
NUMBER_WORDS = frozenset(
    common.listed(
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty thirty "
        "forty fifty sixty seventy eighty ninety hundred "
        "twice dozen"
    )
)


def read(name: str, split: str) -> str:
    return (DATA / name / FILES[name][split]).read_text(encoding="utf-8")


def rte(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read("entailment", split).splitlines()]


def conll(split: str) -> list[list[tuple[str, str]]]:
    sentences = []
    for block in read("ner", split).strip().split("\n\n"):
        pairs = [line.split(" ") for line in block.split("\n")]
        sentences.append([(word, tag) for word, tag in pairs])
    return sentences


def squad(split: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (paragraph["context"], question)
        for article in json.loads(read("qa", split))["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def questions(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read("choice", split).splitlines()]


def text(name: str, split: str) -> str:
    if name == "entailment":
        return " ".join(f"{row['premise']} {row['hypothesis']}" for row in rte(split))
    if name == "choice":
        return " ".join(" ".join([row["claim"], *row["reports"]]) for row in questions(split))
    if name == "ner":
        return " ".join(word for sentence in conll(split) for word, _ in sentence)
    return " ".join(f"{context} {question['question']}" for context, question in squad(split))


def words(name: str, split: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text(name, split).lower()))


def name_words(split: str) -> set[str]:
    tables = common.listed(
        "FIRST_NAMES SURNAMES PLACES AMBIGUOUS BRANDS ACRONYMS DEMONYMS WORKS SHIPS"
    )
    calendar = ("MONTHS", "WEEKDAYS")
    names = [n for table in (*tables, *calendar) for n in getattr(common, table).get(split, [])]
    return {word for name in names for word in name.split()} - GENERIC


@pytest.mark.parametrize("name", list(FILES))
def test_made_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    script = SCRIPTS / f"make_{name}.py"
    subprocess.run([sys.executable, str(script), "--out", str(tmp_path)], check=True)
    for file in FILES[name].values():
        assert (tmp_path / file).read_bytes() == (DATA / name / file).read_bytes(), file


@pytest.mark.parametrize(("split", "least"), [("train", 800), ("dev", 300)])
def test_entailment_rows(split: str, least: int) -> None:
    rows = rte(split)
    assert len(rows) >= least
    assert [row["idx"] for row in rows] == list(range(len(rows)))
    labels = Counter(row["label"] for row in rows)
    assert labels["entailment"] == labels["not_entailment"] == len(rows) // 2


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_hypothesis_says_nothing_about_its_label(split: str) -> None:
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rte(split):
        labels[row["hypothesis"]][row["label"]] += 1
    assert all(count["entailment"] == count["not_entailment"] for count in labels.values())


@pytest.mark.parametrize("split", ["train", "dev"])
def test_many_refuted_hypotheses_name_only_what_the_premise_names(split: str) -> None:
    names = name_words(split)
    refuted = [row for row in rte(split) if row["label"] == "not_entailment"]
    tricky = 0
    for row in refuted:
        premise, hypothesis = (
            set(re.findall(r"\w+", row[side])) for side in ("premise", "hypothesis")
        )
        facts = {word for word in hypothesis if word in names or word.isdigit()}
        tricky += facts <= premise
    assert tricky > 0.4 * len(refuted)


@pytest.mark.parametrize(("split", "least"), [("train", 700), ("dev", 250), ("test", 250)])
def test_ner_rows(split: str, least: int) -> None:
    sentences = conll(split)
    assert len(sentences) >= least
    kinds = {tag[2:] for sentence in sentences for _, tag in sentence if tag != "O"}
    assert kinds == {"PER", "LOC", "ORG", "MISC"}
    for sentence in sentences:
        for (_, before), (_, tag) in zip([("", "O"), *sentence], sentence, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_many_names_have_several_tags(split: str) -> None:
    tags: dict[str, set[str]] = defaultdict(set)
    for sentence in conll(split):
        for word, tag in sentence:
            tags[word].add(tag)
    assert all({"B-PER", "B-LOC", "B-ORG"} <= tags[name] for name in common.AMBIGUOUS[split])


@pytest.mark.parametrize(("split", "least"), [("train", 800), ("dev", 250)])
def test_qa_rows(split: str, least: int) -> None:
    rows = squad(split)
    assert len(rows) >= least
    assert len({question["id"] for _, question in rows}) == len(rows)
    for context, question in rows:
        (answer,) = question["answers"]
        start = answer["answer_start"]
        assert context[start : start + len(answer["text"])] == answer["text"]
        assert 1 <= len(answer["text"].split()) <= 5


@pytest.mark.parametrize(("split", "rows"), [("train", 600), ("dev", 150)])
def test_choice_rows(split: str, rows: int) -> None:
    found = questions(split)
    assert [row["idx"] for row in found] == list(range(rows))
    assert Counter(len(row["reports"]) for row in found) == {2: rows // 2, 3: rows // 2}
    assert all(len(set(row["reports"])) == len(row["reports"]) for row in found)
    for size in (2, 3):
        places = Counter(row["answer"] for row in found if len(row["reports"]) == size)
        assert max(places.values()) - min(places.values()) <= 1
        assert len(places) == size


@pytest.mark.parametrize(("name", "split", "other"), PAIRS)
def test_no_verb_of_another_split(name: str, split: str, other: str) -> None:
    assert not common.verb_forms(other) & words(name, split)


@pytest.mark.parametrize(("name", "split", "other"), PAIRS)
def test_no_name_of_another_split(name: str, split: str, other: str) -> None:
    found = set(re.findall(r"[A-Za-z]+", text(name, split)))
    foreign = name_words(other) - name_words(split)
    assert not foreign & found
    assert not {word.upper() for word in foreign} & found
    assert not name_words(other) & name_words(split)


@pytest.mark.parametrize(("name", "split", "other"), PAIRS)
def test_no_number_of_another_split(name: str, split: str, other: str) -> None:
    here, there = (set(re.findall(r"\d+", text(name, s))) for s in (split, other))
    assert here
    assert not here & there
    assert not words(name, split) & NUMBER_WORDS


@pytest.mark.parametrize(("name", "split", "other"), PAIRS)
def test_no_entity_of_another_split(name: str, split: str, other: str) -> None:
    if name != "ner":
        pytest.skip("only this set has its entities marked")
    here, there = (
        {word for sentence in conll(s) for word, tag in sentence if tag != "O"}
        for s in (split, other)
    )
    assert here & there <= GENERIC
