from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.config.yaml import Float, Int, parse_value, parse_yaml, read_yaml
from ptv2_cli.errors import ConfigError


def value(text: str) -> Any:
    return parse_yaml(f"key: {text}\n", "f.yaml").data["key"]


def problem(text: str) -> tuple[str, str, str]:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f.yaml")
    found = caught.value.problems[0]
    return found.where, found.what, found.hint


@pytest.mark.parametrize(
    "word",
    [
        "on",
        "off",
        "yes",
        "no",
        "On",
        "Y",
        "n",
        "True",
        "FALSE",
        "1:8",
        "190:20:30",
        "2001-12-14",
        "1_000",
        "0b11",
        "5e",
        "e5",
        "1.2.3",
        "17-24",
        "last:8",
        "1,3,5",
        "=",
        "0x",
        "+",
        "-x",
        ".",
    ],
)
def test_words_stay_words(word: str) -> None:
    assert value(word) == word
    assert type(value(word)) is str


@pytest.mark.parametrize(
    ("text", "number"),
    [("11", 11), ("011", 11), ("-011", -11), ("+3", 3), ("0", 0), ("0x1F", 31), ("0o17", 15)],
)
def test_ints(text: str, number: int) -> None:
    read = value(text)
    assert isinstance(read, Int)
    assert (read, read.source) == (number, text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5e-3", 0.005),
        ("1e5", 100000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("1.10", 1.1),
        ("-2E+3", -2000.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_floats(text: str, number: float) -> None:
    read = value(text)
    assert isinstance(read, Float)
    assert (read, read.source) == (number, text)


def test_nan() -> None:
    assert math.isnan(value(".NaN"))


@pytest.mark.parametrize(("text", "read"), [("true", True), ("false", False)])
def test_booleans(text: str, read: bool) -> None:
    assert value(text) is read


@pytest.mark.parametrize("text", ["null", "Null", "~", "", "# only a comment"])
def test_null(text: str) -> None:
    assert value(text) is None


@pytest.mark.parametrize("text", ["5", "true", "null", "5e-3", "on"])
def test_quotes_make_text(text: str) -> None:
    assert value(f"'{text}'") == text
    assert value(f'"{text}"') == text
    assert value(f"!!str {text}") == text


def test_explicit_tags() -> None:
    assert value('!!int "5"') == 5
    assert value("!!float 5") == 5.0


@pytest.mark.parametrize("text", ["!!int abc", "!!bool on", "!!python/name:os.system x", "!own x"])
def test_other_tags_are_errors(text: str) -> None:
    where, _, hint = problem(f"a: 1\nkey: {text}\n")
    assert where == "f.yaml:2"
    assert "without" in hint


def test_numbers_survive_copies() -> None:
    for number in (Int(11, "011"), Float(0.005, "5e-3")):
        for again in (copy.deepcopy(number), pickle.loads(pickle.dumps(number))):
            assert (again, again.source, type(again)) == (number, number.source, type(number))


def test_absurdly_long_numbers_are_text() -> None:
    assert value("1" * 5000) == "1" * 5000


def test_keys_are_text() -> None:
    read = parse_yaml("{0: a, true: b, 1.5: c}", "f.yaml").data
    assert read == {"0": "a", "true": "b", "1.5": "c"}


def test_places() -> None:
    origins = parse_yaml("a: 1\ntrain:\n  lr: 5\n  list:\n  - x\n  - y: 3\n", "f.yaml").origins
    assert origins.where("a") == "f.yaml:1"
    assert origins.where("train") == "f.yaml:2"
    assert origins.where("train", "lr") == "f.yaml:3"
    assert origins.where("train", "list", 1, "y") == "f.yaml:6"
    assert origins.where("train", "epochs") == "f.yaml:2"
    assert origins.where("nowhere", "at", "all") == "f.yaml"


def test_anchors_and_merge() -> None:
    text = "base: &b\n  x: 1\n  y: 2\nother:\n  <<: *b\n  y: 3\nagain: *b\n"
    text += "list:\n  <<: [*b, {x: 9, z: 4}]\n"
    document = parse_yaml(text, "f.yaml")
    assert document.data["other"] == {"x": 1, "y": 3}
    assert document.data["again"] == {"x": 1, "y": 2}
    assert document.data["list"] == {"x": 1, "y": 2, "z": 4}
    assert document.origins.where("other", "x") == "f.yaml:2"
    assert document.origins.where("other", "y") == "f.yaml:6"


def test_duplicate_keys_name_both_lines() -> None:
    where, what, _ = problem("a: 1\nb: 2\na: 3\n")
    assert where == "f.yaml:3"
    assert what == "the key a is written twice, first on line 1"


def test_all_duplicates_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml("a: 1\na: 1\nt:\n  x: 1\n  x: 2\n", "f.yaml")
    assert [found.where for found in caught.value.problems] == ["f.yaml:2", "f.yaml:5"]


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("a: 1\nb:\n\tc: 2\n", "f.yaml:3", "spaces"),
        ("a: b: c\n", "f.yaml:1", "quotes"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2", "bracket"),
        ("a: 'open\n", "f.yaml:2", "quote"),
        ("a: *none\n", "f.yaml:1", "anchor"),
        ("a: @x\n", "f.yaml:1", "quotes"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2", "one document"),
        ("a: 1\nb: \x07\n", "f.yaml:2", "delete"),
        ("? [a]\n: 1\n", "f.yaml:1", "line"),
        ("<<: 5\n", "f.yaml:1", "<<"),
        ("a: &a [*a]\n", "f.yaml:1", "write"),
        ("a: " + "[" * 200 + "]" * 200, "f.yaml:1", "brackets"),
        ("a: " + "[" * 5000, "f.yaml:1", "brackets"),
        ('a: 1\nb: "\\U00110000"\n', "f.yaml:2", "quote"),
        (f"%YAML {'9' * 5000}.1\n---\na: 1\n", "f.yaml:1", "line"),
        ('a: 1\nb: "\\ud800"\n', "f.yaml:2", "delete"),
        ('a: 1\n"\\0": 2\n', "f.yaml:2", "delete"),
    ],
)
def test_broken_yaml(text: str, where: str, hint: str) -> None:
    found = problem(text)
    assert found[0] == where
    assert found[1]
    assert hint in found[2]


def test_unprintable_characters_are_named() -> None:
    assert problem("a: \x07\n")[1] == "holds the unprintable character U+0007"
    assert problem("a: \x1b\n")[1] == "holds the unprintable character U+001B"
    assert "an escape that is no character" in problem('a: "\\U00110000"\n')[1]
    assert problem('a: "\\ud83d"\n')[1] == "holds U+D83D, which is no character of a text"


def test_aliases_that_explode() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 10):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    assert "multiply" in problem("\n".join(lines))[1]


@pytest.mark.parametrize("text", ["- a\n", "word\n", "5\n"])
def test_not_a_mapping(text: str) -> None:
    assert problem("# first\n" + text)[:2] == (
        "f.yaml:2",
        "must hold keys and values, not a single value or a list",
    )


@pytest.mark.parametrize("text", ["", "# a comment\n", "---\n"])
def test_empty(text: str) -> None:
    where, what, hint = problem(text)
    assert (where, what) == ("f.yaml", "is empty")
    assert "ptv2 list configs" in hint


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"f\.yaml:2: is not UTF-8 text: byte 0xe9"):
        read_yaml(path)


def test_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: caf\xc3\xa9\n")
    assert read_yaml(path).data == {"a": "café"}


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1e-2", 0.01),
        (" 5 ", 5),
        ("null", None),
        ("true", True),
        ("on", "on"),
        ("[a, 5, 1e-2]", ["a", 5, 0.01]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("'5'", "5"),
        ('"{p:3} {premise}"', "{p:3} {premise}"),
        ("1,3,5", "1,3,5"),
        ("a: b # c", "a: b # c"),
        ("*x", "*x"),
    ],
)
def test_argument_values(text: str, read: Any) -> None:
    assert parse_value(text, "--set x") == read


@pytest.mark.parametrize("text", ["a\udcffb", '"\\0"', '"\\U00110000"', "[" * 5000, "[\x07]"])
def test_argument_values_that_nothing_can_hold(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_value(text, "--set x")
    assert caught.value.problems[0].where == "--set x"


def test_broken_argument_value() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_value("{p:3} {premise}", "--set x")
    assert caught.value.problems[0].where == "--set x"
    assert """'"{p:3} {premise}"'""" in caught.value.problems[0].hint
