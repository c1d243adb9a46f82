"""Values that readers stumble over, and ways to spoil what was valid."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

DEEP: Any = "x"
for _ in range(60):
    DEEP = [DEEP]
SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 3, 10**9, 2**31, 2**63, -(2**70), 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 1e300, float("inf"), float("nan")),
    *("", " ", "0", "1", "null", "true", "x", "validation", ".", "..", "/", "~", "~nobody", "-"),
    *("\x00", "a\x07b", "\x1b]0;x\x07", "[/]", "[red]x", ":fire:", "{x}", "{", "{mask}", "%s"),
    *("\ufeff", "\u2028", "\u202ex", "\ud800", "e\u0301", "\U0001f600", "日本語", "a\nb", "a\tb"),
    *("x" * 300, "x" * 5000, "/".join("x" * 200 for _ in range(30)), "9" * 5000, "1e9999"),
    *("2024-01-01", "1:8", "5e-3", "0x1F", "011", "1_000", "=1+1", "a=b", "a,b", "*x", "&x"),
)
CONTAINERS: tuple[Any, ...] = (
    *([], {}, [[]], [{}], {"": ""}, {"x": 1}, {"name": "x"}, {"name": None}, {"data": "x"}),
    *([1, "x", None], {"text": {"text": "x"}}, [None], [2], [0.5, True], DEEP),
)
ODD = st.sampled_from(SCALARS) | st.sampled_from(CONTAINERS)
"""Any of them; whatever they are put into gets a copy."""
DEEPEST = 9
"""Longest of the paths at which something is changed."""


def _copied(tree: Any) -> Any:
    """A copy of nested lists and mappings, however deep."""
    return pickle.loads(pickle.dumps(tree))


def paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of what stands in nested mappings and lists, the whole first."""
    yield path
    inner: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        inner = list(tree.items())
    elif isinstance(tree, list):
        inner = list(enumerate(tree))
    if len(path) == DEEPEST:
        return
    for key, value in inner:
        yield from paths(value, (*path, key))


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    """What stands at a path."""
    for part in path:
        tree = tree[part]
    return tree


@st.composite
def spoilt(
    draw: st.DrawFn,
    tree: Any,
    keys: tuple[str, ...],
    most: int = 3,
    values: st.SearchStrategy[Any] = ODD,
) -> Any:
    """A tree with up to `most` changes: values of other types, keys renamed, moved, gone, new."""
    tree = {"": _copied(tree)}
    for _ in range(draw(st.integers(1, most))):
        known = list(paths(tree[""]))
        path = ("", *draw(st.sampled_from(known)))
        holder, key = at(tree, path[:-1]), path[-1]
        how = draw(st.sampled_from(["value", "value", "other", "wrap", "gone", "key", "new"]))
        if how == "value":
            holder[key] = _copied(draw(values))
        elif how == "other":
            holder[key] = _copied(at(tree[""], draw(st.sampled_from(known))))
        elif how == "wrap":
            holder[key] = draw(st.sampled_from([lambda v: [v], lambda v: {"name": v}]))(holder[key])
        elif how == "gone" and path != ("",):
            del holder[key]
        elif how == "key" and isinstance(holder, dict) and path != ("",):
            holder[draw(st.sampled_from(keys))] = holder.pop(key)
        elif how == "new" and isinstance(holder[key], dict):
            holder[key][draw(st.sampled_from(keys))] = _copied(draw(values))
        elif how == "new" and isinstance(holder[key], list):
            holder[key].append(_copied(draw(values)))
    return tree[""]


@st.composite
def spliced(draw: st.DrawFn, text: str, tokens: tuple[str, ...], most: int = 3) -> str:
    """A text with up to `most` changes: tokens put in, spans or lines cut, doubled or moved."""
    for _ in range(draw(st.integers(1, most))):
        how = draw(st.sampled_from(["token", "token", "token", "cut", "end", "line", "swap"]))
        first = draw(st.integers(0, len(text)))
        last = min(len(text), first + draw(st.integers(0, 12)))
        if how == "token":
            text = text[:first] + draw(st.sampled_from(tokens)) + text[first:]
        elif how == "swap":
            text = text[:first] + draw(st.sampled_from(tokens)) + text[last:]
        elif how == "cut":
            text = text[:first] + text[last:]
        elif how == "end":
            text = text[:first]
        else:
            lines = text.split("\n")
            line = lines[draw(st.integers(0, len(lines) - 1))]
            lines.insert(draw(st.integers(0, len(lines))), line)
            text = "\n".join(lines)
    return text


@st.composite
def damaged(draw: st.DrawFn, data: bytes, most: int = 3) -> bytes:
    """Bytes cut short, emptied, altered, or with other bytes put in."""
    how = draw(st.sampled_from(["bytes", "bytes", "cut", "empty", "other", "tail"]))
    if how == "empty":
        return b""
    if how == "other":
        return draw(st.sampled_from([b"\x00", b"{}", b"[]", b"null", b"\xff\xfe", b"PK\x03\x04"]))
    if how == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if how == "tail":
        return data + draw(st.binary(max_size=9))
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, len(data)))
        new = draw(st.sampled_from([b"\x00", b"\xff", b"\xed\xa0\x80", b'"', b"\n", b"\r", b"]"]))
        data = data[:place] + new + data[place + draw(st.integers(0, 2)) :]
    return data
