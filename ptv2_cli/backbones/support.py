"""The support table: what each family can do, in words."""

from __future__ import annotations

from ptv2_cli.backbones.families import FAMILIES, REFUSED, Family

COLUMNS = ("family", "sites", "kv heads", "positions", "pooling", "ckpt", "heads", "tested")
MEANINGS = {
    "sites": "which attention takes prompts; encoder, decoder and cross where method.sites chooses",
    "kv heads": "grouped: checkpoints may have fewer key and value heads than heads",
    "positions": "absolute: a table from 0; padded: one over real tokens, from padding_idx + 1; "
    "rotary: turned into queries and keys; relative: distances alone, a prompt takes up none",
    "pooling": "the vector that sequence, regression and choice heads read by default",
    "ckpt": "train.gradient_checkpointing",
    "heads": "all: sequence, regression, choice, token, span; all*: the first three read the "
    "decoder's first position, token and span run the encoder alone",
    "tested": "tiny: random weights, a few thousand values; a number of parameters: pretrained",
}
"""What the columns mean."""


def support_rows() -> list[tuple[str, ...]]:
    """A row of COLUMNS for each family."""
    return [_row(family) for family in FAMILIES.values()]


def notes() -> list[tuple[str, str]]:
    """Families with something more to be said of."""
    return [(family.name, family.note) for family in FAMILIES.values() if family.note]


def refusals() -> list[tuple[str, str]]:
    """Known families that cannot be prompted, and why."""
    return list(REFUSED.items())


def _row(family: Family) -> tuple[str, ...]:
    return (
        family.name,
        "enc, dec, cross" if family.two_stacks else "self",
        "grouped" if family.grouped else "all",
        family.positions,
        "decoder" if family.two_stacks else family.pooling,
        "yes" if family.checkpointing else "no",
        "all*" if family.two_stacks else "all",
        family.tested,
    )
