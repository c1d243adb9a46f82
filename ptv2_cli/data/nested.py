"""Parts of a row that are objects and lists themselves, as SuperGLUE's files nest them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from ptv2_cli.data.formats import RawRow
from ptv2_cli.errors import DataError

_TYPES = {"object": Mapping, "list": list, "text": str}


def inner(line: RawRow, values: Any, key: str, kind: str, of: str) -> Any:
    """`values[key]`, which is an `object`, a `list` or a `text`; `of`: what `values` is called.

    Raises:
        DataError: there is no such key, or it holds something else.
    """
    if not isinstance(values, Mapping) or key not in values:
        raise DataError.at(line.where, f"{of} has no {key!r}", f"{key!r} holds {_a(kind)}")
    found = values[key]
    if not isinstance(found, _TYPES[kind]):
        what = f"{key!r} of {of} holds {found!r}"
        raise DataError.at(line.where, what, f"it must be {_a(kind)}")
    return found


def numbered(line: RawRow, values: Any, key: str, of: str, each: str) -> Iterator[tuple[int, Any]]:
    """The items of a list and their places from 0, `each` being what one is called.

    Raises:
        DataError: there is no such list, or it is empty.
    """
    found = inner(line, values, key, "list", of)
    if not found:
        raise DataError.at(line.where, f"{of} has no {each}", "write one, or delete the line")
    yield from enumerate(found)


def index_of(line: RawRow, values: Any, default: int) -> int:
    """The whole number that `idx` of an object is; `default` where there is none.

    Raises:
        DataError: it is something else.
    """
    found: Any = values.get("idx", default) if isinstance(values, Mapping) else default
    if not is_index(found):
        raise DataError.at(line.where, f"idx {found!r}", "an index is a whole number, from 0")
    return found


def is_index(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, not negative; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def span_of(line: RawRow, values: Any, length: int, what: str) -> tuple[int, int]:
    """First and last character [inclusive] of a span in a text of `length` characters.

    Raises:
        DataError: it lies outside of the text, or is no span.
    """
    ends: Any = values if isinstance(values, Mapping) else {}
    start, end = ends.get("start"), ends.get("end")
    if is_index(start) and is_index(end) and start <= end < length:
        return start, end
    raise DataError.at(
        line.where,
        f"{what} {values!r} is no span of a text of {length} characters",
        "start and end are its first and its last character, from 0",
    )


def _a(kind: str) -> str:
    return "an object" if kind == "object" else f"a {kind}"
