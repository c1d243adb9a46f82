"""Tokenized rows that one command keeps for the next.

An entry's key has all that its tokens depend on: the rows themselves, the tokenizer as a whole,
what the encoder and the task are told, and the code and libraries that tokenize. Rows that take
less than a second or so are not kept, and neither are those of a task or a tokenizer whose class
is from outside: its code may change.
"""

from __future__ import annotations

import hashlib
import json
import sys
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ptv2_cli.cache import drop, find, keep
from ptv2_cli.data.row_store import RowStore
from ptv2_cli.data.rows import Row
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.inputs.table_file import read_table, write_table
from ptv2_cli.tasks.base import Task

PACKAGE = Path(__file__).parents[2]
KIND = "tokens"
FORMAT = "1"
"""Raised whenever the same key stands for other content."""
LEAST = 4 * 2**20
"""Bytes of rows from which their tokens are kept: some 50,000 short rows."""
CODE = ("inputs", "tasks", "kinds.py", "runs/rows/encoding.py", "runs/rows/kept_tokens.py")
"""What of this package decides which tokens a row has."""


def kept_table(
    task: Task, rows: Sequence[Row], encoder: Encoder, make: Callable[[], FeatureTable]
) -> FeatureTable:
    """The table that was kept of these rows, else what `make` gives, which is kept."""
    key = table_key(task, rows, encoder)
    if key is None:
        return make()
    path = find(KIND, *key)
    if path is not None:
        table = read_table(path)
        if table is not None:
            return table
        drop(path)
    table = make()
    keep(KIND, *key, write=partial(write_table, table))
    return table


def table_key(task: Task, rows: Sequence[Row], encoder: Encoder) -> tuple[str, ...] | None:
    """All that the tokens of rows depend on; None: they are not kept."""
    if not isinstance(rows, RowStore) or rows.nbytes < LEAST:
        return None
    if not _is_of(type(encoder.tokenizer), "transformers"):
        return None
    content, told = rows.sha256, _told(task)
    if content is None or told is None:
        return None
    return FORMAT, content, json.dumps(told), encoder.identity, *_tokenizing_code()


def _told(task: Task) -> list[Any] | None:
    """What a task knows, and those of which it is made; None: one of them is from outside."""
    kind = type(task)
    parts = [_told(part) for part in task.parts]
    if not _is_of(kind, PACKAGE.name) or None in parts:
        return None
    return [
        f"{kind.__module__}.{kind.__qualname__}",
        task.name,
        task.definition.model_dump_json(),
        task.options.model_dump_json(),
        task.columns,
        task.labels,
        parts,
    ]


def _is_of(kind: type[Any], package: str) -> bool:
    """Whether a class is of a package and not from outside, where its code may change."""
    return kind.__module__.split(".")[0] == package


@cache
def _tokenizing_code() -> tuple[str, ...]:
    """The libraries by version, and this package's own code by content."""
    files = [PACKAGE / name for name in CODE]
    files += [file for folder in files for file in sorted(folder.glob("*"))]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(f"{file.relative_to(PACKAGE)}\0".encode() + file.read_bytes())
    libraries = [f"{name} {version(name)}" for name in ("tokenizers", "transformers")]
    return digest.hexdigest(), *libraries, unicodedata.unidata_version, sys.byteorder
