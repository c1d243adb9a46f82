"""`docs/keys.md`: every key with its default, type and meaning, made from the schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from ptv2_cli.backbones.families import COLUMNS, MEANINGS, notes, refusals, support_rows
from ptv2_cli.setup.keys import Key, flat_keys

_OPENING = """\
# Every key

What a config may say. The page is made from the same models that read a config
(`scripts/keys_page.py`), so it says what they do. Paths such as `train.lr` are what `--set`,
`--unset` and `--grid` take; in the file they are sections:

```yaml
train: {lr: 5e-3, epochs: 60}
```

`method`, `backbone`, `task` and `head` may be given as their bare name: `method: ptuning_v2` is
`method: {name: ptuning_v2}`. What is `needed` must be said, or come from `extends:`.
`ptv2 schema` prints the same as JSON Schema, which editors use to complete and check
([completion in editors](complete.md)).
"""
_EMPTY = "-"


def keys_page(schema: Mapping[str, Any]) -> str:
    """The page in markdown."""
    keys = flat_keys(schema)
    parts = [_OPENING, "## At the top\n", _table(key for key in keys if "." not in key.path)]
    below = [key for key in keys if "." in key.path]
    for section, group in groupby(below, key=lambda key: key.path.split(".")[0]):
        parts += _section(section, list(group))
    return "\n".join(parts)


def _section(section: str, keys: list[Key]) -> Iterable[str]:
    yield f"## {section}\n"
    yield _table(key for key in keys if not key.group)
    for group, options in groupby((key for key in keys if key.group), key=lambda key: key.group):
        yield f"### Options of {section}: {_code(group)}\n"
        yield _table(options)


def _table(keys: Iterable[Key]) -> str:
    lines = ["| key | default | type | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{key.path}` | {_cell(key.default)} | {_cell(key.type)} | {_cell(key.meaning)} |"
        for key in keys
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*") or _EMPTY


def _code(group: str) -> str:
    return ", ".join(f"`{name}`" for name in group.split(", "))


def with_tables(page: str) -> str:
    """The page with new tables between its `begin` and `end` comments."""
    tables = {
        "support": _columns_table(COLUMNS, support_rows()),
        "columns": _columns_table(("column", "meaning"), MEANINGS.items()),
        "notes": _columns_table(("family", "note"), notes()),
        "refused": _columns_table(("family", "why"), refusals()),
    }
    for name, table in tables.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, _, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not ended:
            raise ValueError(f"the page has no comments for the table {name!r}")
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


def _columns_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(cell.replace('*', chr(92) + '*') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"
