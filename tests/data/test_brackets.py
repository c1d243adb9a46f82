from __future__ import annotations

import pytest

from ptv2_cli.data.conll import bracket_tags
from ptv2_cli.errors import DataError


def where(index: int) -> str:
    return f"file:{index + 10}"


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        ("* *", "O O"),
        ("(A0*) (V*) (A1* * *)", "B-A0 B-V B-A1 I-A1 I-A1"),
        ("(A0*) (A0*)", "B-A0 B-A0"),  # neighbours of one type stay two
        ("(AM-TMP*AM-TMP) *", "B-AM-TMP O"),  # the type may be named again
        ("(C-A1* *) (R-AM-LOC*)", "B-C-A1 I-C-A1 B-R-AM-LOC"),
        ("(WORK_OF_ART* *) *", "B-WORK_OF_ART I-WORK_OF_ART O"),
    ],
)
def test_bio_tags_of_brackets(values: str, tags: str) -> None:
    assert bracket_tags(values.split(), where) == tags.split()


@pytest.mark.parametrize(
    ("values", "place", "what"),
    [
        ("(A0* * *", "file:10", "(A0* that begins here does not end"),
        ("* *)", "file:11", "ends a span that nothing began"),
        ("(A0*) *)", "file:11", "ends a span that nothing began"),
        ("(A0*))", "file:10", "ends a span that nothing began"),
        ("(A0* (A1*) *)", "file:11", "begins a span inside A0"),
        ("(A0(A1*))", "file:10", "begins a span inside A0"),
        ("(A0* *A1)", "file:11", "ends a span of A0"),
        ("* -", "file:11", "'-' is no bracket"),
        ("B-A0", "file:10", "'B-A0' is no bracket"),
    ],
)
def test_bad_brackets_are_named(values: str, place: str, what: str) -> None:
    with pytest.raises(DataError) as caught:
        bracket_tags(values.split(), where)
    (problem,) = caught.value.problems
    assert problem.where == place
    assert what in problem.what
    assert problem.hint
