from __future__ import annotations

import pytest

from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.template import (
    Column,
    Literal,
    Mask,
    Prompt,
    default_template,
    parse_template,
)

PAIR = ("premise", "hypothesis")


def test_pieces_in_order_with_the_spaces_before_them() -> None:
    template = parse_template("{p:3} {premise}? so {p:2}{hypothesis} {mask}", PAIR)
    assert template.pieces == (
        Prompt(3, 0),
        Column("premise", spaced=True),
        Literal("? so", spaced=False),
        Prompt(2, 3),
        Column("hypothesis", spaced=False),
        Mask(spaced=True),
    )
    assert template.length == 5
    assert template.columns == PAIR
    assert template.has_mask


def test_the_first_piece_follows_no_space() -> None:
    template = parse_template(" Say {premise} {p:1}", PAIR)
    assert template.pieces[:2] == (Literal("Say", False), Column("premise", True))


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{p:3} {premisse}", "unknown {premisse}"),
        ("{premise} {hypothesis}", "no {p:N}"),
        ("{p:3} {mask}", "no text column"),
        ("{p:3} {premise} {mask} {mask}", "two {mask}"),
        ("{p:3} {premise} {premise}", "{premise} twice"),
        ("{p:0} {premise}", "holds no prompt vector"),
        ("{p:x} {premise}", "unknown {p:x}"),
        ("{p:3} {premise", "brace"),
        ("{p:3} premise} {premise}", "brace"),
    ],
)
def test_errors_name_the_template_and_the_places(source: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_template(source, PAIR)
    text = str(caught.value)
    assert what in text
    assert source in text
    assert "{premise}, {hypothesis}" in text
    assert "method.template" in text


@pytest.mark.parametrize(
    ("columns", "total", "mask", "expected"),
    [
        (PAIR, 9, True, "{p:3} {premise} {p:3} {hypothesis} {p:3} {mask}"),
        (PAIR, 10, True, "{p:4} {premise} {p:3} {hypothesis} {p:3} {mask}"),
        (PAIR, 5, False, "{p:3} {premise} {p:2} {hypothesis}"),
        (PAIR, 1, True, "{p:1} {premise} {hypothesis} {mask}"),
        (("tokens",), 7, False, "{p:7} {tokens}"),
        (("question", "context"), 4, False, "{p:2} {question} {p:2} {context}"),
    ],
)
def test_default_spreads_the_total(
    columns: tuple[str, ...], total: int, mask: bool, expected: str
) -> None:
    template = default_template(columns, total, mask)
    assert template.source == expected
    assert template.length == total
