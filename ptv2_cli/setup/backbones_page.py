"""The tables of `docs/backbones.md`, made from what is known of each family."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ptv2_cli.backbones.support import COLUMNS, MEANINGS, notes, refusals, support_rows


def with_tables(page: str) -> str:
    """The page with what stands between its `begin` and `end` comments made anew."""
    tables = {
        "support": _table(COLUMNS, support_rows()),
        "columns": _table(("column", "meaning"), MEANINGS.items()),
        "notes": _table(("family", "note"), notes()),
        "refused": _table(("family", "why"), refusals()),
    }
    for name, table in tables.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"the page has no place for the table {name!r}")
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(cell.replace('*', chr(92) + '*') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"
