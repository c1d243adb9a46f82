"""Write the entity set: configs/data/ner/{train,valid,test}.txt in two CoNLL columns, BIO tags.

Many surnames are also towns and clubs or firms of the same split, so that a word alone does not
determine its tag.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import common as c
from ner_templates import TEMPLATES

FILES = {"train": ("train", 1000), "valid": ("dev", 300), "test": ("test", 300)}

Tagged = list[tuple[str, str]]


def bio(text: str, kind: str) -> Tagged:
    """Tag the words of one entity; a leading article stays outside."""
    words = text.split()
    outside: Tagged = [(words.pop(0), "O")] if words[0] == "the" else []
    tags = [f"B-{kind}", *[f"I-{kind}"] * (len(words) - 1)]
    return outside + list(zip(words, tags, strict=True))


@dataclass
class Filler:
    """Draws the slots of one sentence; no name is used twice in a sentence."""

    rng: random.Random
    split: str
    used: set[str] = field(default_factory=set)

    def fresh(self, names: list[str]) -> str:
        """A name that this sentence does not have yet."""
        name = self.rng.choice([n for n in names if n not in self.used])
        self.used.add(name)
        return name

    def shared_name(self) -> str:
        """A name that may be a person, a place or an organisation."""
        return self.fresh(c.AMBIGUOUS[self.split])

    def surname(self) -> str:
        """A surname, as often as not one that is also a place and an organisation."""
        return self.shared_name() if self.rng.random() < 0.5 else self.fresh(c.SURNAMES[self.split])

    def per(self) -> str:
        """A full name or, as often, a bare surname."""
        if self.rng.random() < 0.5:
            return self.surname()
        return f"{self.fresh(c.FIRST_NAMES[self.split])} {self.surname()}"

    def loc(self) -> str:
        """A town or a region."""
        return self.shared_name() if self.rng.random() < 0.5 else self.fresh(c.PLACES[self.split])

    def org(self) -> str:
        """A bare name, a name with a generic head, a brand or an acronym."""
        draw = self.rng.random()
        if draw < 0.5:
            return self.shared_name()
        if draw < 0.7:
            return f"{self.shared_name()} {self.rng.choice([*c.ORG_HEADS, *c.FIRM_HEADS])}"
        return self.fresh(c.BRANDS[self.split] if draw < 0.85 else c.ACRONYMS[self.split])

    def team(self) -> str:
        """A sports club: always a bare name, often that of a town."""
        return self.shared_name() if self.rng.random() < 0.6 else self.fresh(c.PLACES[self.split])

    def event(self, heads: list[str]) -> str:
        """A cup, a festival, a treaty."""
        return f"{self.shared_name()} {self.rng.choice(heads)}"

    def number(self, low: int, high: int) -> str:
        """A number of this split."""
        return str(self.rng.choice(c.numbers(self.split, low, high)))

    def score(self) -> str:
        """A score such as 20-4, the winner first."""
        return f"{self.number(16, 40)}-{self.number(0, 15)}"

    def slot(self, name: str) -> Tagged:
        """The words and tags of a slot."""
        if name in ("PER", "LOC", "ORG"):
            return bio(getattr(self, name.lower())(), name)
        special = {
            "TEAM": lambda: bio(self.team(), "ORG"),
            "FIRST": lambda: bio(
                f"{self.fresh(c.FIRST_NAMES[self.split])} {self.surname()}", "PER"
            ),
            "LAST": lambda: bio(self.surname(), "PER"),
            "DATELINE": lambda: bio(self.loc().upper(), "LOC"),
            "DEM": lambda: bio(self.fresh(c.DEMONYMS[self.split]), "MISC"),
            "CUP": lambda: bio(self.event(c.SPORT_HEADS), "MISC"),
            "PACT": lambda: bio(self.event(c.PACT_HEADS), "MISC"),
            "FAIR": lambda: bio(self.event(c.FAIR_HEADS), "MISC"),
            "WORK": lambda: [
                (word, f"{'I' if at else 'B'}-MISC")
                for at, word in enumerate(self.fresh(c.WORKS[self.split]).split())
            ],
            "NUM": lambda: plain(self.number(14, 90)),
            "YEAR": lambda: plain(str(self.rng.choice(c.years(self.split)))),
            "DATE": lambda: plain(c.date(self.rng, self.split)),
            "DAY": lambda: plain(self.rng.choice(c.WEEKDAYS[self.split])),
            "SCORE": lambda: plain(self.score()),
            "building": lambda: plain(self.rng.choice(c.BUILDINGS)),
            "role": lambda: plain(self.rng.choice(c.ROLES)),
            "job": lambda: plain(self.rng.choice(c.JOBS)),
            "goods": lambda: plain(self.rng.choice(c.GOODS)),
        }
        if name in special:
            return special[name]()
        kind, form = name.split(".")
        return plain(getattr(self.rng.choice(c.verbs(self.split, kind)), form))


def plain(text: str) -> Tagged:
    """Words outside any entity."""
    return [(word, "O") for word in text.split()]


def make_sentence(rng: random.Random, split: str, template: str) -> Tagged:
    """Fill one template, whose tokens are separated by spaces."""
    filler = Filler(rng, split)
    tagged: Tagged = []
    for token in template.split():
        tagged += filler.slot(token[1:-1]) if token.startswith("{") else plain(token)
    first, tag = tagged[0]
    return [(c.sentence_case(first), tag), *tagged[1:]]


def make_sentences(name: str, split: str, count: int) -> list[Tagged]:
    """All sentences of one file, without repeats."""
    rng = random.Random(f"ner {name}")
    sentences: list[Tagged] = []
    for template in c.cycle_shuffled(rng, TEMPLATES, count):
        sentence = make_sentence(rng, split, template)
        while sentence in sentences and "{" in template:
            sentence = make_sentence(rng, split, template)
        sentences.append(sentence)
    return sentences


def main() -> None:
    """Write the three files."""
    folder = c.out_dir(__doc__, "ner")
    for name, (split, count) in FILES.items():
        blocks = [
            "".join(f"{word} {tag}\n" for word, tag in sentence)
            for sentence in make_sentences(name, split, count)
        ]
        c.write_text(folder / f"{name}.txt", "\n".join(blocks))


if __name__ == "__main__":
    main()
