"""Write the entailment set: configs/data/entailment/{train,val}.jsonl in the format of RTE.

Rows come in pairs that share one hypothesis: one premise supports it, the other does not. The
hypothesis alone therefore says nothing about the label, and premises of both labels come from the
same templates.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import common as c
from entailment_families import (
    COMPARISONS,
    FAMILIES,
    FILLERS,
    OPINIONS,
    VESSELS,
    Family,
)

PAIRS = {"train": 1200, "val": 200}
FILLER_SHARE = 0.3
LABELS = ("entailment", "not_entailment")


@dataclass(frozen=True)
class Row:
    """One premise, one hypothesis, one label."""

    premise: str
    hypothesis: str
    label: str


def draw_value(rng: random.Random, split: str, kind: str) -> object:
    """One value of the kind that a family contrasts."""
    draws: dict[str, Callable[[], object]] = {
        "year": lambda: rng.choice(c.years(split)),
        "count": lambda: rng.choice(c.numbers(split, 22, 980)),
        "days": lambda: rng.choice(c.numbers(split, 5, 90)),
        "age": lambda: rng.choice(c.numbers(split, 19, 84)),
        "date": lambda: c.date(rng, split),
        "weekday": lambda: rng.choice(c.WEEKDAYS[split]),
        "place": lambda: rng.choice([*c.PLACES[split], *c.AMBIGUOUS[split]]),
        "org": lambda: c.orgs(rng, split, 1)[0],
        "firm": lambda: c.firms(rng, split, 1)[0],
        "thing": lambda: rng.choice(c.THINGS),
        "act": lambda: rng.choice(c.acts(split)),
        "opinion": lambda: rng.choice(OPINIONS),
    }
    return draws[kind]()


def scenery(rng: random.Random, split: str) -> dict[str, object]:
    """Everything a template may name besides the contrasted values."""
    people = c.people(rng, split, 6)
    places = rng.sample(c.PLACES[split], 2)
    building, other_building = rng.sample(c.BUILDINGS, 2)
    more, less = rng.choice(COMPARISONS)
    return {
        **c.verb_slots(rng, split),
        **dict(zip("pqr", people[3:], strict=True)),
        "people": people[:3],
        "l": places[0],
        "m": places[1],
        **dict(zip("ou", c.firms(rng, split, 2), strict=True)),
        "n": building,
        "n2": other_building,
        "event": rng.choice(c.EVENTS),
        "thing": rng.choice(c.THINGS),
        "goods": rng.choice(c.GOODS),
        "role": rng.choice(c.ROLES),
        "vessel": rng.choice(VESSELS),
        "act": rng.choice(c.acts(split)),
        "opinion": rng.choice(OPINIONS),
        "more": more,
        "less": less,
    }


def three_values(
    rng: random.Random, split: str, kind: str, scene: dict[str, object]
) -> list[object]:
    """Three different values that the scenery does not use (two, if there are no more)."""
    if kind == "person":
        people = scene["people"]
        assert isinstance(people, list)
        return people
    taken = {str(value) for value in scene.values()}

    def draw() -> object:
        while str(value := draw_value(rng, split, kind)) in taken:
            pass
        return value

    return c.distinct(draw, 2 if kind == "weekday" else 3)


def fill(template: str, scene: dict[str, object], **values: object) -> str:
    """Fill the slots of a template and capitalise it."""
    return c.sentence_case(template.format(**{**scene, **values}))


def premise(
    rng: random.Random, template: str, scene: dict[str, object], x: object, y: object
) -> str:
    """A premise, now and then with a sentence of no importance before or after it."""
    text = fill(template, scene, x=x, y=y)
    if rng.random() >= FILLER_SHARE:
        return text
    filler = fill(rng.choice(FILLERS), scene)
    return f"{text} {filler}" if rng.random() < 0.5 else f"{filler} {text}"


def premise_values(mode: str, values: list[object]) -> tuple[list[object], list[object]]:
    """The values x (true of the claim) and y (true of something else), for both premises.

    The hypothesis always claims values[0] (and, for a swap, that it stands before values[1]).
    """
    h, k = values[0], values[1]
    if mode == "absent":
        return [h, k], [k, values[2]]
    return [h, k], [k, h]


def make_pair(rng: random.Random, split: str, family: Family, mode: str) -> list[Row]:
    """An entailed and a not entailed premise for one hypothesis."""
    scene = scenery(rng, split)
    values = three_values(rng, split, family.value, scene)
    good, bad = premise_values(mode, values)
    hypotheses = family.hypotheses
    if family.negated and rng.random() < 0.5:
        hypotheses, good, bad = family.negated, bad, good
    hypothesis = fill(rng.choice(hypotheses), scene, h=values[0], k=values[1])
    good_pool, bad_pool = family.premises, family.denials or family.premises
    if hypotheses is family.negated:
        good_pool, bad_pool = bad_pool, good_pool
    return [
        Row(premise(rng, rng.choice(good_pool), scene, *good), hypothesis, LABELS[0]),
        Row(premise(rng, rng.choice(bad_pool), scene, *bad), hypothesis, LABELS[1]),
    ]


def schedule(rng: random.Random, count: int) -> list[tuple[Family, str]]:
    """Which family and which contrast each pair uses.

    Half of the pairs contrast a value with others of its kind in the premise, which does not name
    it; the rest contrast it with one that the premise names, swap two roles or rest on a negation.
    """
    by_mode = {mode: [f for f in FAMILIES if mode in f.modes] for mode in ("other", "swap", "deny")}
    absent = [f for f in by_mode["other"] if f.value != "weekday"]
    shares = [
        ("other", by_mode["other"], 0.22),
        ("swap", by_mode["swap"], 0.14),
        ("absent", absent, 0.50),
        ("deny", by_mode["deny"], 0.14),
    ]
    plan = [
        (family, mode)
        for mode, pool, share in shares
        for family in c.cycle_shuffled(rng, pool, round(count * share))
    ]
    rng.shuffle(plan)
    return plan


def make_rows(split: str, count: int) -> list[Row]:
    """All rows of a file, shuffled, without repeats."""
    rng = random.Random(f"entailment {split}")
    names = "train" if split == "train" else "dev"
    rows: list[Row] = []
    seen: set[tuple[str, str]] = set()
    for family, mode in schedule(rng, count):
        pair = make_pair(rng, names, family, mode)
        while any((row.premise, row.hypothesis) in seen for row in pair):
            pair = make_pair(rng, names, family, mode)
        seen.update((row.premise, row.hypothesis) for row in pair)
        rows += pair
    rng.shuffle(rows)
    return rows


def main() -> None:
    """Write both files."""
    folder = c.out_dir(__doc__, "entailment")
    for split, count in PAIRS.items():
        lines = [
            json.dumps({**vars(row), "idx": idx}) + "\n"
            for idx, row in enumerate(make_rows(split, count))
        ]
        c.write_text(folder / f"{split}.jsonl", "".join(lines))


if __name__ == "__main__":
    main()
