"""Tag sequences: the entities in them, and the ways in which files mark their bounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple


class Entity(NamedTuple):
    """Words [start, end) of one type."""

    type: str
    start: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """Entities of a BIO sequence, read as conlleval and seqeval's default mode do.

    An entity begins at B-, and also at an I- that continues nothing of its type.
    """
    read: list[Entity] = []
    kind, start = "", 0
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            read.append(Entity(kind, start, index))
            kind = ""
        if not kind and prefix != "O":
            kind, start = name, index
    return read


def strict_entities(tags: Sequence[str]) -> list[Entity]:
    """Entities that begin with B- (seqeval's strict mode with scheme IOB2)."""
    return [entity for entity in entities(tags) if tags[entity.start].startswith("B-")]


def is_iob1(sentences: Iterable[Sequence[str]]) -> bool:
    """Whether tags are IOB1: entities begin with I-, and B- only parts two neighbours.

    True if some entity begins with I- and no B- stands but right after its own type.
    """
    return _is_iob1(tag_pairs(sentences))


def tag_pairs(sentences: Iterable[Sequence[str]]) -> set[tuple[str, str]]:
    """All different pairs of a tag and the one before it; O stands before the first."""
    return {pair for tags in sentences for pair in zip(("O", *tags), tags, strict=False)}


def _is_iob1(pairs: Iterable[tuple[str, str]]) -> bool:
    begun_by_inside = False
    for before, tag in pairs:
        same = before.partition("-")[2] == tag.partition("-")[2]
        if tag.startswith("B-") and not same:
            return False
        begun_by_inside = begun_by_inside or (tag.startswith("I-") and not same)
    return begun_by_inside


def to_bio(tags: Sequence[str]) -> list[str]:
    """IOB1 to BIO (IOB2): every entity's first tag becomes B-."""
    bio = list(tags)
    for entity in entities(tags):
        bio[entity.start] = f"B-{entity.type}"
    return bio


SPELLINGS = {"B": "B", "I": "I", "M": "I", "E": "I", "L": "I", "S": "B", "U": "B"}
"""First letters of all schemes -> what they are in BIO: BIOES, and BMES and BILOU, which say M for
inside, L for last and U for an entity of one word."""


_ENDS = {"E-", "S-", "M-", "L-", "U-"}
"""Prefixes with which BIOES, BMES and BILOU mark the ends of entities."""


def scheme_of(pairs: Iterable[tuple[str, str]]) -> Literal["bio", "iob1", "bioes"]:
    """The scheme that the `tag_pairs` of a whole file show."""
    pairs = set(pairs)
    if any(tag[:2] in _ENDS for _, tag in pairs):
        return "bioes"
    return "iob1" if _is_iob1(pairs) else "bio"


def bioes_to_bio(tags: Sequence[str]) -> list[str]:
    """BIOES, BMES or BILOU to BIO."""
    return [tag if tag == "O" else f"{SPELLINGS[tag[0]]}{tag[1:]}" for tag in tags]
