"""Tables of spreadsheets: the first sheet of an .xlsx file, its first row naming the columns."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from ptv2_cli.errors import DataError
from ptv2_cli.tasks.formats import Line, Record, short, tried
from ptv2_cli.tasks.tables import table_header


def read_workbook(path: Path, data: bytes | None = None) -> Iterator[Record]:
    """Rows of the first sheet; every value is text, as a csv file of the sheet would have it.

    Empty rows are skipped. Of a formula its last result counts.

    Args:
        path: the file, or what messages call it.
        data: its content, where it is no file.

    Raises:
        DataError: it is no .xlsx file, openpyxl is not installed, or the header cannot be used.
    """
    header: list[str] = []
    line = 1
    for number, cells in enumerate(_sheet(path, data), start=1):
        texts = [_text(cell) for cell in cells]
        while texts and not texts[-1].strip():
            texts.pop()
        if not texts:
            continue
        if not header:
            header, line = table_header(f"{path}:{number}", texts, ","), number
            continue
        yield _row(path, number, texts, header, line)


def _row(path: Path, number: int, texts: list[str], header: list[str], line: int) -> Record:
    def make() -> Line:
        if len(texts) > len(header):
            raise DataError.at(
                f"{path}:{number}",
                f"{len(texts)} cells, but the header names {len(header)}: {', '.join(header)}",
                "name the further columns in the first row, or empty their cells",
            )
        filled = [*texts, *[""] * (len(header) - len(texts))]
        return Line(dict(zip(header, filled, strict=True)), path, number, header=line)

    return tried(make, number, texts)


def _sheet(path: Path, data: bytes | None) -> Iterator[tuple[Any, ...]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        what = "reading .xlsx files needs openpyxl, which is not installed"
        raise DataError.at(str(path), what, "pip install 'ptv2[xlsx]'") from None
    try:
        source = io.BytesIO(path.read_bytes() if data is None else data)
    except OSError as error:
        raise DataError.at(str(path), f"cannot be read: {error.strerror}") from None
    try:
        book = load_workbook(source, read_only=True, data_only=True)
        yield from book.worksheets[0].iter_rows(values_only=True)
    except Exception as error:  # a damaged file may raise anything in zipfile, XML and openpyxl
        what = f"no .xlsx file that can be read: {short(str(error) or type(error).__name__)}"
        raise DataError.at(str(path), what, "save it again as .xlsx, or as .csv") from None


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return cell.isoformat() if isinstance(cell, datetime | date | time) else str(cell)
