from __future__ import annotations

import random
import warnings

from ptv2_cli.scoring.entities import Entity, entities, is_iob1, strict_entities, to_bio


def test_entities_of_a_sentence() -> None:
    tags = ["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-ORG"]
    assert entities(tags) == [
        Entity("PER", 0, 2),
        Entity("LOC", 3, 4),
        Entity("LOC", 4, 5),
        Entity("ORG", 5, 6),
    ]
    assert strict_entities(tags) == [Entity("PER", 0, 2), Entity("LOC", 4, 5)]


def test_entities_are_seqevals() -> None:
    from seqeval.metrics.sequence_labeling import get_entities
    from seqeval.scheme import IOB2
    from seqeval.scheme import Entities as Strict

    draw = random.Random(3)
    names = ["O", "O", "B-A", "I-A", "B-B", "I-B"]
    for _ in range(500):
        tags = [draw.choice(names) for _ in range(draw.randint(1, 9))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            default = [(kind, start, end + 1) for kind, start, end in get_entities(tags)]
            strict = [item.to_tuple()[1:] for item in Strict([tags], IOB2).entities[0]]
        assert [tuple(item) for item in entities(tags)] == default
        assert [tuple(item) for item in strict_entities(tags)] == strict


def test_iob1_is_told_by_entities_that_begin_inside() -> None:
    iob1 = [["I-PER", "I-PER", "O"], ["I-LOC", "B-LOC"]]
    assert is_iob1(iob1)
    assert [to_bio(tags) for tags in iob1] == [["B-PER", "I-PER", "O"], ["B-LOC", "B-LOC"]]


def test_bio_stays_bio() -> None:
    assert not is_iob1([["B-PER", "I-PER", "B-PER"], ["O"]])
    assert not is_iob1([["O", "O"]])
    # A slip in a BIO file does not make it IOB1.
    assert not is_iob1([["B-PER", "O"], ["I-LOC", "O"]])


def test_a_change_of_type_inside_begins_an_entity() -> None:
    assert to_bio(["I-PER", "I-LOC", "I-LOC"]) == ["B-PER", "B-LOC", "I-LOC"]
