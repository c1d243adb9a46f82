"""Write the restaurants set: facts about a restaurant, and a text that says them.

A validation row has two to four texts. Run: python scripts/data/make_restaurants.py
"""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Any

import common as c
from restaurant_texts import AREAS, FOODS, Facts, describe

ROWS = {"train": 1000, "val": 200}
TEXTS = (2, 3, 3, 4)
"""Numbers of texts of a validation row, each equally often."""
VALUES = {
    "food": list(FOODS),
    "price": ["cheap", "moderate", "high"],
    "area": list(AREAS),
    "family friendly": ["yes", "no"],
    "rating": ["low", "average", "high"],
}
COUNTS = (2, 3, 3, 4, 4, 5, 6)
"""Numbers of facts beside the name, each equally often."""
FIRST: dict[str, list[str]] = {
    "train": c.listed(
        "Copper Golden Silver Crooked Laughing Hungry Quiet Velvet Wandering Painted Rusty Merry "
        "Emerald Midnight Smoking Salty"
    ),
    "dev": c.listed("Amber Dancing Sleepy Scarlet Broken Winter Jolly Hidden Marble Thirsty"),
}
SECOND: dict[str, list[str]] = {
    "train": c.listed(
        "Kettle Lantern Spoon Anchor Fox Heron Plum Barrel Goose Orchard Teapot Lemon Pheasant "
        "Saucer Walnut Badger"
    ),
    "dev": c.listed("Ladle Otter Pepper Wheel Swan Basket Cherry Sparrow Candle Rooster"),
}
SHARED = c.listed("The Café Kitchen Table Bistro Grill Bridge Station Museum Square Theatre Mill")
"""Words that names of both splits may have."""


def restaurant(rng: random.Random, split: str) -> str:
    """A name whose own words no other split has."""
    form = rng.randrange(4)
    if form < 2:
        return f"The {rng.choice(FIRST[split])} {rng.choice(SECOND[split])}"
    if form == 2:
        owner = rng.choice(c.SURNAMES[split])
        return f"{owner}'{'' if owner.endswith('s') else 's'} {rng.choice(SHARED[2:6])}"
    return f"Café {rng.choice(SECOND[split])}"


def landmark(rng: random.Random, split: str) -> str:
    """A name of something near."""
    return f"{rng.choice(c.PLACES[split])} {rng.choice(SHARED[6:])}"


def make_facts(rng: random.Random, split: str) -> Facts:
    """A restaurant with some facts, always in the same order."""
    names = ["food", "price", "area", "near", "family friendly", "rating"]
    chosen = rng.sample(names, rng.choice(COUNTS))
    facts = {"name": restaurant(rng, split)}
    for name in names:
        if name in chosen:
            facts[name] = landmark(rng, split) if name == "near" else rng.choice(VALUES[name])
    return facts


def make_rows(split: str, count: int) -> list[dict[str, Any]]:
    """All rows of a file."""
    rng = random.Random(f"restaurants {split}")
    names = "train" if split == "train" else "dev"
    rows: list[dict[str, Any]] = []
    for facts in c.distinct(lambda: make_facts(rng, names), count):
        written = " | ".join(f"{name}: {value}" for name, value in facts.items())
        if split == "train":
            rows.append({"facts": written, "text": describe(rng, facts)})
        else:
            texts = c.distinct(partial(describe, rng, facts), rng.choice(TEXTS))
            rows.append({"facts": written, "text": texts})
    return rows


def main() -> None:
    """Write both files."""
    folder = c.out_dir(__doc__, "restaurants")
    for split, count in ROWS.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in make_rows(split, count)]
        c.write_text(folder / f"{split}.jsonl", "".join(lines))


if __name__ == "__main__":
    main()
