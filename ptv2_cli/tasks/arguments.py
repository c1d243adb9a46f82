"""Arguments of a predicate as the CoNLL-2005 shared task counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ptv2_cli.tasks.bio import entities
from ptv2_cli.tasks.statistics import precision_recall_f1

VERB = "V"
"""The argument that is the predicate itself."""
CONTINUES = "C-"


class Argument(NamedTuple):
    """One argument: its role, and its pieces [start, end) in words, several if it is broken up."""

    role: str
    pieces: tuple[tuple[int, int], ...]


def arguments(tags: Sequence[str]) -> list[Argument]:
    """The arguments that the official scorer, srl-eval, compares.

    The verb itself (V, and C-V) is left out: it is given. C-X is a further piece of the last X
    before it, and the argument is right if its role and all its pieces are; with no X before it,
    it is an X of its own. R-X is a role like any other (Carreras and Marquez 2005, sections 2
    and 4: an argument is right if the words that it spans and its role are).
    """
    found: list[Argument] = []
    for role, start, end in entities(tags):
        base = role.removeprefix(CONTINUES)
        places = [at for at, argument in enumerate(found) if argument.role == base]
        if role != base and places:
            last = found[places[-1]]
            found[places[-1]] = last._replace(pieces=(*last.pieces, (start, end)))
        else:
            found.append(Argument(base, ((start, end),)))
    return [argument for argument in found if argument.role != VERB]


def by_role(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and support of every role, from pairs of predicted and gold tags."""
    right: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    for guess, truth in pairs:
        one, other = set(arguments(guess)), set(arguments(truth))
        right.update(argument.role for argument in one & other)
        guessed.update(argument.role for argument in one)
        gold.update(argument.role for argument in other)
    roles = sorted(gold | guessed)
    return {role: figures(right[role], guessed[role], gold[role]) for role in roles}


def figures(right: float, guessed: float, gold: float) -> dict[str, Any]:
    """Precision, recall, F1 and support of one line of a table."""
    counts = (np.array(count, dtype=float) for count in (right, guessed, gold))
    names = ("precision", "recall", "f1")
    scores = dict(zip(names, map(float, precision_recall_f1(*counts)), strict=True))
    return {**scores, "support": int(gold)}
