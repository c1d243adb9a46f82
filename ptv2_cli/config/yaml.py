"""YAML with the scalars of YAML 1.2 (core schema) that remembers lines and source texts.

Differences from PyYAML's `safe_load`: only `true` and `false` are booleans (`on`, `yes`, `True`
are words), `5e-3` is a number, `011` is eleven, `1:8` and dates are text, a key that is written
twice is an error, and keys are always text. See https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from ptv2_cli.config.origins import KeyPath, Origin, Origins
from ptv2_cli.errors import ConfigError, Problem, gather

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_NULLS = ("", "~", "null", "Null", "NULL")
_MAX_NODES = 100_000
MAX_DEPTH = 50
"""How deep mappings and lists may be nested."""
_MAX_DIGITS = 1000  # Python refuses to read ints of more than 4300
_LOOK = "look at this line and the one above: indentation, an open quote or bracket"
_HINTS = {
    "\\t": "indent with spaces, not tabs",
    "mapping values are not allowed": 'text that holds ": " needs quotes; check the indentation',
    "single document": "keep one document per file: delete the second --- and what follows",
    "alias": "define the &anchor above its *alias; text that begins with * needs quotes",
    "cannot start any token": "text that begins with this character needs quotes",
}


class Int(int):
    """An int that knows the text it was read from."""

    source: str

    def __new__(cls, value: int, source: str = "") -> Int:
        """The number `value`, written as `source`."""
        number = super().__new__(cls, value)
        number.source = source or str(int(value))
        return number


class Float(float):
    """A float that knows the text it was read from."""

    source: str

    def __new__(cls, value: float, source: str = "") -> Float:
        """The number `value`, written as `source`."""
        number = super().__new__(cls, value)
        number.source = source or repr(float(value))
        return number


@dataclass(frozen=True)
class Document:
    """A YAML mapping and the origins of its keys."""

    data: dict[str, Any]
    origins: Origins


def kind_of(text: str) -> str:
    """What an unquoted scalar is: `null`, `bool`, `int`, `float` or `str`."""
    if text in _NULLS:
        return "null"
    if text in ("true", "false"):
        return "bool"
    if len(text) > _MAX_DIGITS:
        return "str"
    if _INT.fullmatch(text):
        return "int"
    return "float" if _FLOAT.fullmatch(text) else "str"


def scalar(text: str, kind: str | None = None) -> Any:
    """The value of an unquoted scalar, of its own kind or of `kind`.

    Raises:
        ValueError: `text` is not of the kind `kind`.
    """
    own = kind_of(text)
    kind = kind or own
    if kind == "str":
        return text
    if own != kind and (kind, own) != ("float", "int"):
        raise ValueError(f"{text!r} is not of the kind {kind}")
    if kind == "int":
        return Int(_integer(text), text)
    if kind == "float":
        return Float(float(text.lower().replace(".inf", "inf").replace(".nan", "nan")), text)
    return None if kind == "null" else text == "true"


def unusable(text: str) -> str | None:
    """What of a text can be written to no file, path or output; None: nothing."""
    for sign in text:
        if sign == "\0" or "\ud800" <= sign <= "\udfff":  # NUL; half a pair, or a byte of no UTF-8
            return f"holds U+{ord(sign):04X}, which is no character of a text"
    return None


def _integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text if base == 10 else text[2:], base)


def read_yaml(path: Path) -> Document:
    """Read a file that holds one mapping.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, is not valid YAML, is empty, holds
            something else than a mapping, or says a key twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise ConfigError.at(str(path), what, f"check it with: ls -l {path}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        what = f"is not UTF-8 text: byte {error.object[error.start]:#04x}"
        hint = "save the file with the encoding UTF-8"
        raise ConfigError.at(f"{path}:{line}", what, hint) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str) -> Document:
    """Parse a text that holds one mapping; `file` is its name in messages.

    Raises:
        ConfigError: see `read_yaml`.
    """
    node = _compose(text, file)
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        hint = "write at least: method, backbone, task, prompt_len (ptv2 list configs has examples)"
        raise ConfigError.at(file, "is empty", hint)
    if not isinstance(node, yaml.MappingNode):
        what = "must hold keys and values, not a single value or a list"
        raise ConfigError.at(f"{file}:{_line(node)}", what, "write lines such as: prompt_len: 20")
    builder = _Builder(file)
    data = builder.value(node, ())
    gather(builder.problems, ConfigError)
    return Document(data, builder.origins)


def parse_value(text: str, file: str) -> Any:
    """The value of a command-line argument: flow YAML if it begins like it, else a scalar.

    Raises:
        ConfigError: a `[`, `{` or quote opens something that is not valid YAML.
    """
    text = text.strip()
    bad = unusable(text)
    if bad is not None:
        raise ConfigError.at(file, f"its value {bad}", "give it as UTF-8 text")
    if not text.startswith(("[", "{", '"', "'")):
        return scalar(text)
    builder = _Builder(file, lines=False)
    try:
        node = _compose(text, file)
        value = None if node is None else builder.value(node, ())
        gather(builder.problems, ConfigError)
    except ConfigError as error:
        what = error.problems[0].what
        hint = f"""to give it as text, quote it twice: '"{text}"'"""
        raise ConfigError.at(file, what, hint) from error
    return value


def from_python(value: Any, where: str) -> Any:
    """A value that Python gave, as if it had been read: plain, numbers with their source.

    Paths become text, tuples and ranges lists, numpy's numbers Python's.

    Args:
        value: any value of a config, or a whole one.
        where: what messages call it.

    Raises:
        ConfigError: no config can hold it.
    """
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or isinstance(value, bool | Int | Float):
        return value
    if isinstance(value, str | PathLike):
        text = fspath(value)
        bad = unusable(text) if isinstance(text, str) else "is bytes"
        if bad is None:
            return text
        raise ConfigError.at(where, f"its value {bad}", "give it as UTF-8 text")
    if isinstance(value, int):
        return Int(value)
    if isinstance(value, float):
        return Float(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: from_python(inner, where) for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [from_python(inner, where) for inner in value]
    name = f"a value of the type {type(value).__name__}"
    name = "a mapping whose keys are not text" if isinstance(value, Mapping) else name
    hint = "a config holds text, numbers, true and false, None, lists and dicts of these"
    raise ConfigError.at(where, f"{name} cannot be in a config", hint)


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner and parser with the scalar kinds of YAML 1.2."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The tag of a node that has none of its own."""
        if kind is yaml.ScalarNode:
            return _TAG + (kind_of(value) if implicit[0] else "str")
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


def _compose(text: str, file: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except ReaderError as error:
        where = f"{file}:{text[: error.position].count(chr(10)) + 1}"
        hint = "delete it, or write it as an escape in double quotes"
        what = f"holds the unprintable character U+{int(error.character):04X}"
        raise ConfigError.at(where, what, hint) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else file
        said = ", ".join(part for part in (error.context, error.problem) if part)
        hint = next((hint for sign, hint in _HINTS.items() if sign in said), _LOOK)
        raise ConfigError.at(where, f"is not valid YAML: {said}", hint) from error
    except RecursionError as error:
        where = f"{file}:{loader.line + 1}" if loader else file
        raise ConfigError.at(where, "is nested too deeply", "close the open brackets") from error
    except (yaml.YAMLError, ValueError) as error:  # "\U00110000", a version of 5,000 digits
        where = f"{file}:{loader.line + 1}" if loader else file
        what = "is not valid YAML: an escape that is no character, or a version that is no number"
        raise ConfigError.at(where, what, _LOOK) from error


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Builder:
    """Turns nodes into values, noting origins and problems on the way."""

    def __init__(self, file: str, lines: bool = True) -> None:
        self.origins = Origins(file)
        self.problems: list[Problem] = []
        self._lines = lines
        self._open: set[int] = set()
        self._nodes = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The value of `node` at `path`."""
        self._nodes += 1
        if len(self._open) > MAX_DEPTH:
            what = f"is nested more than {MAX_DEPTH} deep"
            raise ConfigError.at(self._where(node), what, "close the open brackets")
        if id(node) in self._open or self._nodes > _MAX_NODES:
            what = "an alias is inside its own anchor, or aliases multiply without end"
            raise ConfigError.at(self._where(node), what, "write the value out")
        self._open.add(id(node))
        try:
            return self._value(node, path)
        finally:
            self._open.remove(id(node))

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self._item(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and kind in ("null", "bool", "int", "float", "str"):
            self._check(node)
            try:
                return scalar(node.value, kind)
            except ValueError as error:
                self._problem(node, str(error), "write the value without its tag")
                return None
        self._problem(node, f"the tag {node.tag!r} is unknown", "write the value without it")
        return None

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.origins.entries[path] = self._origin(node)
        return self.value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        own: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, "a key must be a word, not a list or a mapping", _LOOK)
            elif key.value in own:
                what = (
                    f"the key {key.value} is written twice, first on line {_line(own[key.value])}"
                )
                self._problem(key, what, "delete one of the two lines")
            else:
                self._check(key)
                own[key.value] = key
                if not _is_merge(key):
                    self.origins.entries[(*path, key.value)] = self._origin(key)
                    values[key.value] = self.value(value, (*path, key.value))
        for key, value in node.value:
            if _is_merge(key):
                self._merge(values, value, path)
        return values

    def _merge(self, values: dict[str, Any], node: yaml.Node, path: KeyPath) -> None:
        """`<<: *anchor` or `<<: [*a, *b]`: keys that are already there win."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                what = "<< takes a mapping or a list of mappings"
                self._problem(source, what, "write <<: *NAME")
                continue
            before = dict(self.origins.entries)
            merged = self.value(source, path)
            self.origins.entries.update(before)
            values.update({key: value for key, value in merged.items() if key not in values})

    def _check(self, node: yaml.ScalarNode) -> None:
        bad = unusable(node.value)
        if bad is not None:
            self._problem(node, bad, "delete its escape in the double quotes")

    def _problem(self, node: yaml.Node, what: str, hint: str) -> None:
        self.problems.append(Problem(self._where(node), what, hint))

    def _where(self, node: yaml.Node) -> str:
        return str(self._origin(node))

    def _origin(self, node: yaml.Node) -> Origin:
        return Origin(self.origins.file, _line(node) if self._lines else None)


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and key.style is None
