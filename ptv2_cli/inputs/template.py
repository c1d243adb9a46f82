"""Templates: the order of prompt vectors, text columns, words and a [MASK] in an input.

P-tuning v1 (Liu et al. 2021, "GPT Understands, Too", section 3.2) writes its input as
`[P0..Pi] x [Pi+1..Pj] y`; here that is text such as `{p:3} {premise} {p:3} {mask}`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ptv2_cli.errors import ConfigError

WHERE = "method.template"
_BLANK = " \t"


@dataclass(frozen=True)
class Prompt:
    """`{p:N}`: N prompt vectors, the first of which has index `first` in the whole prompt."""

    size: int
    first: int

    @property
    def indices(self) -> range:
        """The vectors' indices in the whole prompt."""
        return range(self.first, self.first + self.size)


@dataclass(frozen=True)
class Column:
    """`{name}`: the text of a column. `spaced`: whitespace comes before it."""

    name: str
    spaced: bool


@dataclass(frozen=True)
class Literal:
    """Words of the template itself. `spaced`: whitespace comes before them."""

    text: str
    spaced: bool


@dataclass(frozen=True)
class Mask:
    """`{mask}`: the token whose hidden state the head may read. `spaced`: as for a column."""

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
        """Number of all its prompt vectors."""
        return sum(piece.size for piece in self.pieces if isinstance(piece, Prompt))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its text columns, in template order."""
        return tuple(piece.name for piece in self.pieces if isinstance(piece, Column))

    @property
    def ends_line(self) -> bool:
        """Whether it ends with a line break."""
        last = self.pieces[-1]
        return isinstance(last, Literal) and last.text.endswith("\n")

    @property
    def has_mask(self) -> bool:
        """Whether it has a {mask}."""
        return any(isinstance(piece, Mask) for piece in self.pieces)


def parse_template(
    source: str,
    columns: Sequence[str],
    where: str = WHERE,
    *,
    prompted: bool = True,
    lines: bool = False,
) -> Template:
    """Parse template text for a task that has `columns`.

    Args:
        source: the text.
        columns: names of the task's text columns.
        where: the key of the config that gives it.
        prompted: whether it has prompt vectors; else it has no `{p:N}`.
        lines: whether line breaks are kept around its words; else they are spaces.

    Raises:
        ConfigError: braces that hold neither `p:N`, `mask` nor a column; no `{p:N}`, or one
            although `prompted` is false; no column; a column or `{mask}` twice; a stray brace.
    """
    try:
        template = _parsed(source, columns, where, lines)
        _check(template, columns, prompted)
    except _Unfit as error:
        known = ", ".join(f"{{{name}}}" for name in columns)
        vectors = "{p:N} (N prompt vectors), " if prompted else ""
        raise ConfigError.at(
            where,
            f"{error} in template {source!r}",
            f"a template may hold {vectors}{{mask}} and the task's columns: {known}",
        ) from None
    return template


class _Unfit(ValueError):
    """What is wrong with a template."""


def _parsed(source: str, columns: Sequence[str], where: str, lines: bool) -> Template:
    pieces: list[Piece] = []
    prompts = 0
    spaced = False
    for part in re.split(r"(\{[^{}]*\})", source):
        if not part.startswith("{"):
            if "{" in part or "}" in part:
                raise _Unfit("a brace that is not closed or not opened")
            lead, text, tail = _trimmed(part, lines)
            if text:
                pieces.append(Literal(text, (spaced or lead) and bool(pieces)))
            spaced = tail if part else spaced
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
            raise _Unfit(f"unknown {part}")
        spaced = False
    return Template(source, tuple(pieces), where)


def _trimmed(part: str, lines: bool) -> tuple[bool, str, bool]:
    """Words without the white space around them, and whether there was some before and after.

    With `lines`, line breaks belong to the words.
    """
    text = part.strip(_BLANK if lines else None)
    lead = part[:1].isspace() and not text.startswith("\n")
    tail = part[-1:].isspace() and not (lines and part.endswith("\n"))
    return lead, text, tail


def default_template(columns: Sequence[str], total: int, with_mask: bool) -> Template:
    """Spread `total` prompt vectors evenly over a template of the usual form.

    They come before every column and, with a mask, before the mask; the first ones take the
    remainder. A prompt with fewer vectors than these leaves the last ones without any.
    """
    fields = [f"{{{name}}}" for name in columns] + (["{mask}"] if with_mask else [])
    share, rest = divmod(total, len(fields))
    sizes = [share + (index < rest) for index in range(len(fields))]
    text = " ".join(
        f"{{p:{size}}} {field}" if size else field
        for size, field in zip(sizes, fields, strict=True)
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
            raise _Unfit(f"{{{name}}} twice")
