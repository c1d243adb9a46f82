"""Small valid data sets of every kind of task and file, to be spoilt."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import conll_files
import openpyxl
import pyarrow
import pyarrow.parquet
import superglue
import tiny
from hypothesis import strategies as st
from odd import ODD, damaged, spliced, spoilt

NUMBERED = {"entailment": 0.5, "not_entailment": -1.5}
KEYS = (
    *("text", "label", "idx", "id", "premise", "hypothesis", "choices", "tokens", "tags", "task"),
    *("question", "context", "answers", "is_impossible", "answer_start", "data", "paragraphs"),
    *("qas", "passage", "target", "gold", "prediction", "", "x", "probabilities", "span1_index"),
)
TOKENS = (
    *("\x00", "\x07", "\x1b[2J", "\x7f", "\x85", "\ufeff", "\u2028", "\ufffe", "\t", "\r", "\n"),
    *("\n\n", ",", ";", "|", '"', '""', "'", "{", "}", "[", "]", ":", "\\", "\\u0000", "\\ud800"),
    *("null", "true", "NaN", "Infinity", "-", "1e999", "9" * 400, "9" * 5000, "[" * 3000),
    *("日本語", "\U0001f600", "e\u0301", "\u200b", "\u00a0", "# ", "#", "-DOCSTART- O\n", "|||"),
    *("(A0*", "*)", "(V*)", "*", " O", " B-PER", " I-X", " S-PER", " E-LOC", " B-", " X-PER"),
    *('"answers": 5, ', '"label": [], ', "[/red]", ":fire:", "=1+1", '"text": "", ', "\x1c", "  "),
)


DEEP: Any = json.loads("[" * 480 + "]" * 480)
VALUES = ODD | st.just(DEEP)


@dataclass(frozen=True)
class Corpus:
    """A task and the files of its folder: text, a list of rows (jsonl) or a tree (json)."""

    task: dict[str, Any]
    files: dict[str, Any]


def as_bytes(name: str, content: Any) -> bytes:
    """A file's content as its name says."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    if name.endswith(".parquet"):
        stream = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), stream)
        return stream.getvalue()
    if name.endswith(".json") or not isinstance(content, list):
        return json.dumps(content).encode()
    return _lines(content)


@st.composite
def spoilt_file(draw: st.DrawFn, name: str, content: Any) -> bytes:
    """The bytes of a file: with other values, with tokens put in, or damaged."""
    if isinstance(content, bytes):
        return draw(damaged(content))
    if not isinstance(content, str) and draw(st.integers(0, 3)):
        tree = draw(spoilt(content, KEYS, values=VALUES))
        try:
            return as_bytes(name, tree)
        except Exception:
            assert name.endswith(".parquet"), "a value that only parquet files cannot hold"
            return b""
    data = as_bytes(name, content)
    if name.endswith(".parquet") or not draw(st.integers(0, 3)):
        return draw(damaged(data))
    return as_bytes(name, draw(spliced(data.decode(), TOKENS)))


def corpora() -> dict[str, Corpus]:
    """One of each, by its task and the name of one of its files."""
    with TemporaryDirectory() as name:
        found = [*_own(Path(name)), *_official(Path(name))]
    names = [f"{at} {corpus.task['name']} {min(corpus.files)}" for at, corpus in enumerate(found)]
    return dict(zip(names, found, strict=True))


def _own(folder: Path) -> list[Corpus]:
    rte = _rows(tiny.write_rte(folder / "rte", 8, 4))
    numbers = {
        name: [{**row, "label": NUMBERED[row["label"]] + row["idx"]} for row in rows]
        for name, rows in rte.items()
    }
    ner = _texts(tiny.write_ner(folder / "ner", 8, 4))
    sentences = {
        f"{Path(name).stem}.jsonl": [_sentence(block) for block in text.split("\n\n")]
        for name, text in ner.items()
    }
    squad = _trees(tiny.write_squad(folder / "squad", 6, 3))
    questions = {
        f"{Path(name).stem}.jsonl": [
            {**question, "context": paragraph["context"]}
            for paragraph in tree["data"][0]["paragraphs"]
            for question in paragraph["qas"]
        ]
        for name, tree in squad.items()
    }
    pair = ["premise", "hypothesis"]
    kinds = {"name": "text/classification", "text": pair}
    return [
        Corpus(kinds, rte),
        Corpus(kinds, _tables(rte, ".csv", ",")),
        Corpus(kinds, _tables(rte, ".tsv", "\t")),
        Corpus(kinds, {f"{name[:-6]}.parquet": _typed(rows) for name, rows in rte.items()}),
        Corpus(kinds, {f"{name[:-6]}.json": rows for name, rows in rte.items()}),
        Corpus(kinds, {f"{name[:-6]}.xlsx": _workbook(rows) for name, rows in rte.items()}),
        Corpus(kinds, {f"{n[:-6]}.jsonl.gz": gzip.compress(_lines(r)) for n, r in rte.items()}),
        Corpus(kinds, {name: _lines(rows).decode().encode("utf-16") for name, rows in rte.items()}),
        Corpus({**kinds, "delimiter": ";", "encoding": "cp1252"}, _tables(rte, ".csv", ";")),
        Corpus({"name": "text/regression", "text": pair}, numbers),
        Corpus({"name": "text/regression", "text": "premise"}, _tables(numbers, ".csv", ",")),
        Corpus({"name": "text/choice"}, _rows(tiny.write_choice(folder / "choice", 8, 4))),
        Corpus({"name": "text/tagging"}, ner),
        Corpus({"name": "text/tagging"}, sentences),
        Corpus({"name": "text/qa"}, squad),
        Corpus({"name": "text/qa"}, questions),
        Corpus({"name": "text/qa"}, _trees(tiny.write_squad(folder / "2", 6, 3, impossible=True))),
    ]


def _official(folder: Path) -> list[Corpus]:
    two = _trees(tiny.write_squad(folder / "squad_v2", 6, 3, impossible=True))
    roles = conll_files.write_2005(folder / "2005", 6, 3, brown=False)
    tree = conll_files.text_2012(conll_files.sentences(6, 1))
    trees = {"train.conll": tree, "dev.conll": tree}
    return [
        Corpus({"name": "superglue/rte"}, _rows(folder / "rte")),
        *(
            Corpus({"name": f"superglue/{task}"}, _rows(superglue.write(folder / task, task, 6, 3)))
            for task in superglue.MAKERS
        ),
        Corpus({"name": "ner/conll2003"}, _texts(folder / "ner")),
        Corpus({"name": "ner/ontonotes"}, trees),
        Corpus({"name": "srl/conll2005"}, _texts(roles)),
        Corpus({"name": "srl/conll2012"}, trees),
        Corpus({"name": "qa/squad"}, _trees(folder / "squad")),
        Corpus({"name": "qa/squad_v2"}, two),
    ]


def _typed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with values of the types that only parquet files have."""
    day = datetime(2020, 2, 29, 1, 2, 3)
    more = {"when": day, "day": day.date(), "span": timedelta(1), "cost": Decimal("1.5")}
    return [{**row, **more, "raw": b"\xff\x00", "nested": {"at": [day.time()]}} for row in rows]


def _lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _workbook(rows: list[dict[str, Any]]) -> bytes:
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for cells in ([*rows[0]], *([*row.values()] for row in rows)):
        book.active.append(cells)
    book.save(stream)
    return stream.getvalue()


def _texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}


def _rows(folder: Path) -> dict[str, list[Any]]:
    return {
        name: [json.loads(line) for line in text.splitlines()]
        for name, text in _texts(folder).items()
    }


def _trees(folder: Path) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in _texts(folder).items()}


def _tables(files: dict[str, list[Any]], suffix: str, delimiter: str) -> dict[str, str]:
    tables = {}
    for name, rows in files.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        tables[f"{Path(name).stem}{suffix}"] = text.getvalue()
    return tables


def _sentence(block: str) -> dict[str, list[str]]:
    words = [line.split() for line in block.splitlines()]
    return {"tokens": [word for word, _ in words], "tags": [tag for _, tag in words]}
