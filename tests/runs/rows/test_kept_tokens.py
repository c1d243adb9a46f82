"""Tokenized rows are kept for the next command, and never mistaken for others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from ptv2_cli.data.row_store import RowStore
from ptv2_cli.inputs.encoder import Demonstration, Encoder
from ptv2_cli.inputs.template import parse_template
from ptv2_cli.runs.rows import kept_tokens
from ptv2_cli.runs.rows.encoding import encode_rows
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task
from ptv2_cli.tasks.classification import Classification

ROWS = [
    {"premise": "the cat sat", "hypothesis": "Ann lives", "label": "entailment"},
    {"premise": "who sat ?", "hypothesis": "the mat", "label": "not_entailment"},
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PTV2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_tokens, "LEAST", 0)
    kept_tokens._tokenizing_code.cache_clear()
    return tmp_path / "cache" / kept_tokens.KIND


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call tokenized."""
    calls: list[int] = []
    encode = Classification.encode

    def counted(self: Any, rows: Any, encoder: Any) -> Any:
        calls.append(len(rows))
        return encode(self, rows, encoder)

    monkeypatch.setattr(Classification, "encode", counted)
    return calls


def store(rows: Any = ROWS) -> RowStore:
    return RowStore(dict(row) for row in rows)


def test_rows_are_tokenized_once(wordpiece: Any, encoded: list[int], folder: Path) -> None:
    task = load_task("superglue/rte")
    tables = [
        encode_rows(task, store(), Encoder(tokenizer, 24))
        for tokenizer in (wordpiece, copy.deepcopy(wordpiece))
    ]
    assert encoded == [2]
    assert list(tables[0]) == list(tables[1]) == list(task.encode(ROWS, Encoder(wordpiece, 24)))
    assert len(list(folder.iterdir())) == 1


def test_a_damaged_entry_is_made_again(wordpiece: Any, encoded: list[int], folder: Path) -> None:
    task, encoder = load_task("superglue/rte"), Encoder(wordpiece, 24)
    first = encode_rows(task, store(), encoder)
    (path,) = folder.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert list(encode_rows(task, store(), encoder)) == list(first)
    assert encoded == [2, 2]
    assert path.read_bytes() == content
    path.write_bytes(b"")
    encode_rows(task, store(), encoder)
    encode_rows(task, store(), encoder)
    assert encoded == [2, 2, 2]


def test_few_rows_and_rows_kept_whole_are_not_kept(
    wordpiece: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, encoder = load_task("superglue/rte"), Encoder(wordpiece, 24)
    encode_rows(task, ROWS, encoder)
    encode_rows(task, store([{**ROWS[0], "more": object()}]), encoder)
    monkeypatch.setattr(kept_tokens, "LEAST", 10_000)
    encode_rows(task, store(), encoder)
    assert not folder.exists()
    encode_rows(task, store(ROWS * 100), encoder)
    assert len(list(folder.iterdir())) == 1


def test_off_keeps_nothing(
    wordpiece: Any, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTV2_CACHE", "off")
    for _ in range(2):
        encode_rows(load_task("superglue/rte"), store(), Encoder(wordpiece, 24))
    assert encoded == [2, 2]


def test_classes_from_outside_are_not_kept(wordpiece: Any, folder: Path) -> None:
    class Mine(Classification):
        """A class whose code may change at any time."""

    known = load_task("superglue/rte")
    mine = Mine(known.name, known.definition, known.options)
    assert list(encode_rows(mine, store(), Encoder(wordpiece, 24)))
    other = copy.deepcopy(wordpiece)
    other.__class__ = type("Mine", (type(other),), {"__module__": "mine"})
    assert list(encode_rows(known, store(), Encoder(other, 24)))
    several = load_task("superglue/rte")
    several.parts = (known, mine)
    assert kept_tokens.table_key(several, store(), Encoder(wordpiece, 24)) is None
    assert not folder.exists()


def _changed(tokenizer: Any, change: Callable[[Any], Any]) -> Any:
    other = copy.deepcopy(tokenizer)
    change(other)
    return other


COLUMNS = ("premise", "hypothesis")
CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a text": lambda x: x.update(rows=store([{**ROWS[0], "premise": "the cat sat ."}, ROWS[1]])),
    "a label": lambda x: x.update(rows=store([{**ROWS[0], "label": "not_entailment"}, ROWS[1]])),
    "no label": lambda x: x.update(
        rows=store([{k: v for k, v in ROWS[0].items() if k != "label"}, ROWS[1]])
    ),
    "the type of a value": lambda x: x.update(rows=store([{**ROWS[0], "premise": 1}, ROWS[1]])),
    "the order of rows": lambda x: x.update(rows=store(ROWS[::-1])),
    "fewer rows": lambda x: x.update(rows=store()[:1]),
    "other rows of one store": lambda x: x.update(rows=store()[1:]),
    "the task": lambda x: x.update(task=load_task("superglue/cb")),
    "its version": lambda x: x.update(definition={"version": 99}),
    "its labels": lambda x: x.update(definition={"labels": ("not_entailment", "entailment")}),
    "its columns": lambda x: x.update(definition={"text": COLUMNS[::-1]}),
    "its options": lambda x: x.update(task=x["task"].with_options(metrics=("f1_macro",))),
    "max_len": lambda x: x["encoder"].update(max_len=25),
    "truncation": lambda x: x["encoder"].update(truncation="only_first"),
    "a template": lambda x: x["encoder"].update(
        template=parse_template("{p:1} {premise} {hypothesis}", COLUMNS)
    ),
    "causal": lambda x: x["encoder"].update(causal=True),
    "ahead": lambda x: x["encoder"].update(ahead=True),
    "no limit": lambda x: x.update(finish=lambda encoder: encoder.unlimited(24)),
    "demonstrations": lambda x: x.update(
        finish=lambda encoder: encoder.showing([Demonstration({"premise": "x"}, (5, 6))])
    ),
    "an added token": lambda x: x["encoder"].update(
        tokenizer=_changed(x["encoder"]["tokenizer"], lambda t: t.add_tokens([AddedToken("cats")]))
    ),
    "the pad token": lambda x: x["encoder"].update(
        tokenizer=_changed(x["encoder"]["tokenizer"], lambda t: setattr(t, "pad_token", "[UNK]"))
    ),
    "the model's inputs": lambda x: x["encoder"].update(
        tokenizer=_changed(
            x["encoder"]["tokenizer"], lambda t: setattr(t, "model_input_names", ["input_ids"])
        )
    ),
    "how special tokens are read": lambda x: x["encoder"].update(
        tokenizer=_changed(
            x["encoder"]["tokenizer"], lambda t: setattr(t, "split_special_tokens", True)
        )
    ),
    "a library": lambda x: x["patch"].setattr(kept_tokens, "version", lambda name: "0.0"),
    "Unicode's version": lambda x: x["patch"].setattr(
        kept_tokens.unicodedata, "unidata_version", "1"
    ),
    "the code": lambda x: x["patch"].setattr(kept_tokens, "CODE", ("inputs",)),
    "the format": lambda x: x["patch"].setattr(kept_tokens, "FORMAT", "0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_tokens_depend_on_is_in_the_key(
    change: str, wordpiece: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(changing: Callable[[dict[str, Any]], Any]) -> Any:
        said: dict[str, Any] = {
            "task": load_task("superglue/rte"),
            "rows": store(),
            "encoder": {"tokenizer": copy.deepcopy(wordpiece), "max_len": 24},
            "finish": lambda encoder: encoder,
            "patch": monkeypatch,
        }
        changing(said)
        kept_tokens._tokenizing_code.cache_clear()
        task: Task = said["task"]
        if "definition" in said:
            definition = task.definition.model_copy(update=said["definition"])
            task = type(task)(task.name, definition, task.options)
        return kept_tokens.table_key(task, said["rows"], said["finish"](Encoder(**said["encoder"])))

    before = key(lambda said: None)
    assert before is not None
    assert key(lambda said: None) == before
    assert key(CHANGES[change]) != before


def test_options_and_parts_of_every_task_are_in_the_key(wordpiece: Any) -> None:
    encoder = Encoder(wordpiece, 24)

    def key(task: Task) -> Any:
        return kept_tokens.table_key(task, store(), encoder)

    for name, options in (
        ("ner/conll2003", {"stride": 7}),
        ("qa/squad", {"stride": 7}),
        ("srl/conll2005", {"separator": "literal"}),
        ("superglue/wic", {"template": "word"}),
        ("text/classification", {"labels": ("b", "a")}),
        ("text/regression", {"mean": 2.0}),
        ("text/choice", {"choices": ("a", "b")}),
    ):
        task = load_task(name)
        assert key(task) != key(task.with_options(**options)), name
    with_parts = load_task("superglue/rte"), load_task("superglue/rte")
    with_parts[0].parts = (load_task("superglue/rte"), load_task("superglue/cb"))
    with_parts[1].parts = (load_task("superglue/rte"), load_task("superglue/boolq"))
    assert key(with_parts[0]) != key(with_parts[1])
