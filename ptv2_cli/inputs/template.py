"""Templates: where the prompt vectors, the text columns and a [MASK] stand in an input.

P-tuning v1 (Liu et al. 2021, "GPT Understands, Too", section 3.2) writes its input as
`[P0..Pi] x [Pi+1..Pj] y`; here that is text such as `{p:3} {premise} {p:3} {mask}`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ptv2_cli.errors import ConfigError

WHERE = "method.template"


@dataclass(frozen=True)
class Prompt:
    """`{p:N}`: N prompt vectors, the first of which has index `first` in the whole prompt."""

    size: int
    first: int


@dataclass(frozen=True)
class Column:
    """`{name}`: the text of a column. `spaced`: whitespace stands before it."""

    name: str
    spaced: bool


@dataclass(frozen=True)
class Literal:
    """Words of the template itself. `spaced`: whitespace stands before them."""

    text: str
    spaced: bool


@dataclass(frozen=True)
class Mask:
    """`{mask}`: the place whose hidden state the head may read. `spaced`: as for a column."""

    spaced: bool = False


Piece = Prompt | Column | Literal | Mask


@dataclass(frozen=True)
class Template:
    """A parsed template."""

    source: str
    pieces: tuple[Piece, ...]
    where: str = WHERE
    """The key of the config that gives it."""

    @property
    def length(self) -> int:
        """Number of prompt vectors over all places."""
        return sum(piece.size for piece in self.pieces if isinstance(piece, Prompt))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the text columns it shows, in template order."""
        return tuple(piece.name for piece in self.pieces if isinstance(piece, Column))

    @property
    def has_mask(self) -> bool:
        """Whether a {mask} stands in it."""
        return any(isinstance(piece, Mask) for piece in self.pieces)


def parse_template(
    source: str, columns: Sequence[str], where: str = WHERE, *, prompted: bool = True
) -> Template:
    """Parse template text for a task that has `columns`.

    Args:
        source: the text.
        columns: names of the task's text columns.
        where: the key of the config that gives it.
        prompted: whether prompt vectors stand in it; else it has words and `{mask}` alone.

    Raises:
        ConfigError: a place that is neither `{p:N}`, `{mask}` nor a column; no `{p:N}`, or one
            where prompts do not belong; no column; a column or `{mask}` given twice; a stray
            brace.
    """
    try:
        template = _parsed(source, columns, where)
        _check(template, columns, prompted)
    except _Unfit as error:
        known = ", ".join(f"{{{name}}}" for name in columns)
        vectors = "{p:N} (N prompt vectors), " if prompted else ""
        raise ConfigError.at(
            where,
            f"{error} in template {source!r}",
            f"places are {vectors}{{mask}} and the task's columns: {known}",
        ) from None
    return template


class _Unfit(ValueError):
    """What is wrong with a template."""


def _parsed(source: str, columns: Sequence[str], where: str) -> Template:
    pieces: list[Piece] = []
    prompts = 0
    spaced = False
    for part in re.split(r"(\{[^{}]*\})", source):
        if not part.startswith("{"):
            if "{" in part or "}" in part:
                raise _Unfit("a brace that is not closed or not opened")
            text = part.strip()
            if text:
                pieces.append(Literal(text, (spaced or part[0].isspace()) and bool(pieces)))
            spaced = part[-1].isspace() if part else spaced
            continue
        name = part[1:-1].strip()
        size = re.fullmatch(r"p:\s*([0-9]{1,9})", name)
        if size:
            if int(size[1]) == 0:
                raise _Unfit(f"{part} holds no prompt vector")
            pieces.append(Prompt(int(size[1]), prompts))
            prompts += int(size[1])
        elif name == "mask":
            pieces.append(Mask(spaced and bool(pieces)))
        elif name in columns:
            pieces.append(Column(name, spaced and bool(pieces)))
        else:
            raise _Unfit(f"unknown place {part}")
        spaced = False
    return Template(source, tuple(pieces), where)


def default_template(columns: Sequence[str], total: int, with_mask: bool) -> Template:
    """Spread `total` prompt vectors evenly over a template of the usual form.

    Before every column and, with a mask, before the mask; earlier places take the remainder.
    A prompt shorter than the places leaves the last places out.
    """
    places = [f"{{{name}}}" for name in columns] + (["{mask}"] if with_mask else [])
    share, rest = divmod(total, len(places))
    sizes = [share + (index < rest) for index in range(len(places))]
    text = " ".join(
        f"{{p:{size}}} {place}" if size else place
        for size, place in zip(sizes, places, strict=True)
    )
    return parse_template(text, columns)


def _check(template: Template, columns: Sequence[str], prompted: bool) -> None:
    if prompted and not template.length:
        raise _Unfit("no {p:N}: nowhere to put the prompt")
    if template.length and not prompted:
        raise _Unfit("a {p:N}, but the method gives no vectors for it")
    if not template.columns:
        raise _Unfit("no text column")
    if sum(isinstance(piece, Mask) for piece in template.pieces) > 1:
        raise _Unfit("two {mask}: the head reads one")
    for name in columns:
        if template.columns.count(name) > 1:
            raise _Unfit(f"{{{name}}} stands twice")
