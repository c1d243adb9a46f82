"""Ways to say facts about a restaurant: order, sentences, clauses, pronouns and polarity vary."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Facts = dict[str, str]

FOODS = {
    **{
        kind: (f"{kind} food", f"{kind} dishes", f"{kind} cuisine")
        for kind in ("Italian", "Indian", "Chinese", "French", "Thai", "Greek", "Mexican")
    },
    "seafood": ("seafood", "seafood dishes", "fish and seafood"),
    "vegetarian": ("vegetarian food", "vegetarian dishes", "vegetarian meals"),
}
AREAS = {
    "riverside": ("by the river", "on the riverside", "in the riverside area"),
    "city centre": ("in the city centre", "in the centre of the city", "right in the city centre"),
    "old town": ("in the old town", "in the old part of town", "in the streets of the old town"),
    "harbour": ("by the harbour", "at the harbour", "in the harbour area"),
    "suburbs": ("in the suburbs", "out in the suburbs", "away from the centre, in the suburbs"),
}
NEAR = ("near {}", "close to {}", "next to {}", "not far from {}")
BEFORE_NOUN = {
    "price": {
        "cheap": ("cheap", "inexpensive", "low-priced"),
        "moderate": ("moderately priced", "mid-priced"),
        "high": ("expensive", "high-priced", "upmarket"),
    },
    "rating": {
        "low": ("poorly rated", "low-rated"),
        "average": ("averagely rated",),
        "high": ("highly rated", "well-rated", "top-rated"),
    },
    "family friendly": {
        "yes": ("family-friendly", "child-friendly"),
        "no": ("adults-only",),
    },
}
VERBS = {
    "food": {"": ("serves {}", "offers {}", "cooks {}", "has {} on its menu", "specialises in {}")},
    "price": {
        "cheap": ("is cheap", "has low prices", "charges little", "keeps its prices low"),
        "moderate": ("has moderate prices", "is moderately priced", "is neither cheap nor dear"),
        "high": ("is expensive", "has high prices", "charges a lot"),
    },
    "area": {"": ("is {}", "lies {}", "can be found {}", "is located {}")},
    "near": {"": ("is {}", "stands {}", "can be found {}", "is located {}")},
    "family friendly": {
        "yes": ("is family-friendly", "welcomes children", "is a good place for families"),
        "no": ("is not family-friendly", "does not welcome children", "is no place for children"),
    },
    "rating": {
        "low": ("has a low rating", "is poorly rated", "gets low marks from its guests"),
        "average": ("has an average rating", "gets average marks", "is rated average by guests"),
        "high": ("has a high rating", "is highly rated", "gets high marks from its guests"),
    },
}
CLAUSES = {
    "price": {
        "cheap": ("its prices are low", "a meal costs little", "you eat cheaply there"),
        "moderate": ("its prices are moderate", "a meal there is moderately priced"),
        "high": ("its prices are high", "a meal there is expensive"),
    },
    "family friendly": {
        "yes": ("children are welcome", "families are welcome", "you can bring the children"),
        "no": ("children are not welcome", "it is not the place for a family"),
    },
    "rating": {
        "low": ("guests rate it poorly", "its rating is low"),
        "average": ("guests rate it average", "its rating is average"),
        "high": ("guests rate it highly", "its rating is high"),
    },
}
MOODS = {"cheap": 1, "yes": 1, "no": -1}
NOUNS = ("restaurant", "place", "eatery")


def describe(rng: random.Random, facts: Facts) -> str:
    """One to four sentences that say every fact once."""
    rest = [name for name in facts if name != "name"]
    rng.shuffle(rest)
    if rng.random() < 0.6:  # where it is belongs together
        rest.sort(key=lambda name: name in {"area", "near"}, reverse=rng.random() < 0.5)
    size = min(len(rest), rng.choice((1, 2, 2, 3)))
    sentences = [_first(rng, facts, rest[:size])]
    rest = rest[size:]
    while rest:
        size = min(len(rest), rng.choice((1, 1, 2, 2, 3)))
        last = len(rest) == size
        subjects = ["It", "It", "The place", "The restaurant"]
        if last and sentences[1:]:
            subjects.append(facts["name"])
        sentences.append(_further(rng, facts, rest[:size], rng.choice(subjects), last=last))
        rest = rest[size:]
    return " ".join(sentences)


def _first(rng: random.Random, facts: Facts, names: Sequence[str]) -> str:
    """A sentence that names the restaurant."""
    name = facts["name"]
    where = [one for one in names if one in {"area", "near"}]
    what = [one for one in names if one not in where]
    place = _place(rng, facts, where)
    forms: list[Callable[[], str]] = [
        lambda: f"{name} is {_noun_phrase(rng, facts, what, place)}",
        lambda: f"There is {_noun_phrase(rng, facts, what, f'called {name} {place}')}",
        lambda: f"{name} {_verbs(rng, facts, names)}",
    ]
    if place and what:
        pause = "," if "," in place else ""
        forms += [
            lambda: f"{_upper(place)}, {name} {_verbs(rng, facts, what)}",
            lambda: (
                f"{_upper(place)}{pause} you will find {name}, {_noun_phrase(rng, facts, what)}"
            ),
            lambda: f"{name}, {place}, {_verbs(rng, facts, what)}",
        ]
    if "food" in what and len(what) == 1:
        forms.append(lambda: f"For {rng.choice(FOODS[facts['food']])} {place}, try {name}")
    return _sentence(rng.choice(forms)())


def _further(
    rng: random.Random, facts: Facts, names: Sequence[str], subject: str, *, last: bool
) -> str:
    """A sentence about the restaurant, which the text has named before."""
    if len(names) == 1 and names[0] in CLAUSES:
        form = rng.randrange(3)
        clause = _say(rng, CLAUSES, facts, names[0])
        if form == 0:
            return _sentence(clause)
        if form == 1 and last:
            return _sentence(f"also, {clause}")
    if len(names) == 2 and names[1] in CLAUSES and rng.random() < 0.5:
        link = ", but" if _contrast(facts, names) else ", and"
        clause = _say(rng, CLAUSES, facts, names[1])
        return _sentence(f"{subject} {_say(rng, VERBS, facts, names[0])}{link} {clause}")
    return _sentence(f"{subject} {_verbs(rng, facts, names)}")


def _noun_phrase(rng: random.Random, facts: Facts, names: Sequence[str], further: str = "") -> str:
    """Such as `a cheap Thai restaurant that welcomes children`; `further` follows the noun."""
    before = [name for name in names if name in BEFORE_NOUN]
    after = before[1:]
    words = [rng.choice(BEFORE_NOUN[name][facts[name]]) for name in before[:1]]
    noun = rng.choice(NOUNS)
    if "food" in names:
        if rng.random() < 0.6:
            words.append(facts["food"])
        else:
            noun = f"{noun} for {rng.choice(FOODS[facts['food']])}"
    phrase = " ".join([*words, noun])
    article = "an" if phrase[0] in "aeiouAEIOU" else "a"
    pause = "," if "," in further else ""
    relative = f"{pause} that {_verbs(rng, facts, after)}" if after else ""
    return f"{article} {phrase} {further.strip()}".strip() + relative


def _verbs(rng: random.Random, facts: Facts, names: Sequence[str]) -> str:
    """Such as `serves Thai food, has low prices and is near the mill`."""
    if list(names) in (["area", "near"], ["near", "area"]):
        return f"{rng.choice(('is', 'lies', 'can be found'))} {_place(rng, facts, names)}"
    parts = [_say(rng, VERBS, facts, name) for name in names]
    if len(parts) == 1:
        return parts[0]
    link = " but" if _contrast(facts, names[-2:]) else " and"
    return f"{', '.join(parts[:-1])}{link} {parts[-1]}"


def _say(
    rng: random.Random, ways: dict[str, dict[str, tuple[str, ...]]], facts: Facts, name: str
) -> str:
    value = facts[name]
    if name == "food":
        return rng.choice(ways[name][""]).format(rng.choice(FOODS[value]))
    if name in {"area", "near"}:
        return rng.choice(ways[name][""]).format(_place(rng, facts, [name]))
    return rng.choice(ways[name][value])


def _place(rng: random.Random, facts: Facts, names: Sequence[str]) -> str:
    """Such as `in the old town, near the mill`; empty without such facts."""
    parts = [
        rng.choice(AREAS[facts[name]]) if name == "area" else rng.choice(NEAR).format(facts[name])
        for name in names
    ]
    return ", ".join(parts)


def _contrast(facts: Facts, names: Sequence[str]) -> bool:
    """Whether one of two facts is in the restaurant's favour and the other is not."""
    moods = [_mood(name, facts[name]) for name in names]
    return moods[0] * moods[1] < 0


def _mood(name: str, value: str) -> int:
    if value == "high":
        return -1 if name == "price" else 1
    if value == "low":
        return -1
    return MOODS.get(value, 0) if name in {"price", "family friendly"} else 0


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return f"{_upper(' '.join(text.split()))}."
