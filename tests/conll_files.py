"""Files in the layouts of CoNLL-2005 and CoNLL-2012, of sentences of our own."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

Proposition = tuple[int, list[str]]
"""A predicate's index and a BIO tag for every word."""
Sentence = tuple[list[str], list[str], list[Proposition]]
"""Words, entity tags, propositions."""

PEOPLE = ("ann", "bob", "carl", "dora")
CITIES = ("paris", "rome", "oslo")


def sentences(count: int, seed: int) -> list[Sentence]:
    """`ann likes the cat in paris`, and `ann likes bob who sees the cat`, which has two."""
    draw = random.Random(seed)
    found: list[Sentence] = []
    for index in range(count):
        verb, other = draw.sample(["likes", "sees"], 2)
        who, whom = draw.sample(PEOPLE, 2)
        thing = ["the", *draw.choices(["big", "red", "old"], k=draw.randint(0, 2)), "cat"]
        inside = ["I-A1"] * (len(thing) - 1)
        named = ["B-PERSON", "O"]
        if index % 2:
            words = [who, verb, *thing, "in", draw.choice(CITIES)]
            tags = ["B-A0", "B-V", "B-A1", *inside, "B-AM-LOC", "I-AM-LOC"]
            found.append((words, [*named, *["O"] * len(thing), "O", "B-GPE"], [(1, tags)]))
            continue
        words = [who, verb, whom, "who", other, *thing]
        rest = len(thing) + 2
        first = ["B-A0", "B-V", "B-A1", *["I-A1"] * rest]
        second = ["O", "O", "B-A0", "B-R-A0", "B-V", "B-A1", *inside]
        entities = [*named, "B-PERSON", *["O"] * rest]
        found.append((words, entities, [(1, first), (4, second)]))
    return found


def brackets(tags: Sequence[str]) -> list[str]:
    """BIO tags as a column of brackets."""
    after = [*tags[1:], "O"]
    return [
        (f"({tag[2:]}" if tag[0] == "B" else "")
        + "*"
        + (")" if tag != "O" and not following.startswith("I-") else "")
        for tag, following in zip(tags, after, strict=True)
    ]


def text_2005(found: Sequence[Sentence]) -> str:
    """WORD POS PARSE ENTITY LEMMA and a column for every predicate."""
    blocks = []
    for words, entities, propositions in found:
        lemmas = {at: words[at].rstrip("s") for at, _ in propositions}
        columns = [
            words,
            ["X"] * len(words),
            ["(S*", *["*"] * (len(words) - 2), "*)"],
            brackets(entities),
            [lemmas.get(at, "-") for at in range(len(words))],
            *(brackets(tags) for _, tags in propositions),
        ]
        blocks.append(_block(columns))
    return "\n".join(blocks)


def text_2012(found: Sequence[Sentence], document: str = "nw/made/00/made_0001") -> str:
    """The columns of CoNLL-2012 in a document; A0 is ARG0 there, AM-LOC ARGM-LOC."""
    blocks = []
    for words, entities, propositions in found:
        size = len(words)
        frames = {at: "01" for at, _ in propositions}
        columns = [
            [document] * size,
            ["0"] * size,
            [str(at) for at in range(size)],
            words,
            ["X"] * size,
            ["(S*", *["*"] * (size - 2), "*)"],
            [words[at].rstrip("s") if at in frames else "-" for at in range(size)],
            [frames.get(at, "-") for at in range(size)],
            ["-"] * size,
            ["-"] * size,
            brackets(entities),
            *(brackets(long_names(tags)) for _, tags in propositions),
            ["-"] * size,
        ]
        blocks.append(_block(columns))
    body = "\n".join(blocks)
    return f"#begin document ({document}); part 000\n{body}\n#end document\n"


def long_names(tags: Sequence[str]) -> list[str]:
    """CoNLL-2005's names of roles as CoNLL-2012 writes them."""
    return [re.sub("-A(?=[M0-5])", "-ARG", tag) for tag in tags]


def write_2005(folder: Path, train: int = 40, validation: int = 12, brown: bool = True) -> Path:
    """`train-set`, `dev-set`, `test.wsj` and, if asked for, `test.brown`, as the task has them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train-set").write_text(text_2005(sentences(train, 1)))
    (folder / "dev-set").write_text(text_2005(sentences(validation, 2)))
    (folder / "test.wsj").write_text(text_2005(sentences(6, 3)))
    if brown:
        (folder / "test.brown").write_text(text_2005(sentences(4, 4)))
    return folder


def write_2012(folder: Path, train: int = 40, validation: int = 12) -> Path:
    """The release's tree of documents, with files that its tasks must leave alone."""
    for split, count, seed in (("train", train, 1), ("development", validation, 2), ("test", 6, 3)):
        place = folder / split / "data" / "english" / "annotations" / "nw" / "made" / "00"
        place.mkdir(parents=True)
        found = sentences(count, seed)
        half = count // 2
        (place / "made_0001.v4_gold_conll").write_text(text_2012(found[:half]))
        (place / "made_0002.v4_gold_conll").write_text(text_2012(found[half:]))
        (place / "made_0001.v4_auto_conll").write_text("not to be read")
        other = folder / split / "data" / "chinese" / "annotations"
        other.mkdir(parents=True)
        (other / "made_0003.v4_gold_conll").write_text("not to be read either")
    return folder


def _block(columns: Sequence[Sequence[str]]) -> str:
    return "".join("  ".join(line) + "\n" for line in zip(*columns, strict=True))
