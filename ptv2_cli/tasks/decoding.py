"""Bytes of a data file to text: UTF-8, or a guess at what else it is and how to convert it."""

from __future__ import annotations

import codecs
import shlex
from pathlib import Path

from ptv2_cli.errors import DataError

PAIRED = 0.9
"""Share of bytes above 127 that stand beside another such byte: a script of two-byte letters."""


def read_text(path: Path) -> str:
    """A file's text, without a byte order mark.

    Raises:
        DataError: the file cannot be read or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError.at(str(path), f"cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8: byte 0x{data[error.start]:02x}"
        raise DataError.at(f"{path}:{line}", what, _convert(path, data)) from None
    if "\0" in text:  # UTF-16 without its mark is valid UTF-8 full of NULs
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError.at(f"{path}:{line}", "not UTF-8: it holds NUL bytes", _convert(path, data))
    return text


def check_unicode(text: str, where: str) -> None:
    """See that text can be written as UTF-8.

    Raises:
        DataError: it holds half a surrogate pair, or a byte that was no UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # where surrogateescape puts a byte
            raise DataError.at(
                where,
                f"not UTF-8: byte 0x{code - 0xDC00:02x}",
                "iconv -f latin1 -t utf-8 FILE > NEW_FILE, if it is Latin-1",
            ) from None
        raise DataError.at(
            where,
            f"half a surrogate pair: \\u{code:04x}",
            "write characters beyond \\uffff as both halves, or as themselves",
        ) from None


def likely_encoding(data: bytes) -> str:
    """What bytes that are no UTF-8 probably are, as iconv calls it."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    if b"\0" in data:
        return "UTF-16BE" if data[:1] == b"\0" else "UTF-16LE"
    high = [byte > 127 for byte in data]
    paired = sum(
        now and (before or after)
        for before, now, after in zip([False, *high], high, [*high[1:], False], strict=False)
    )
    if paired > PAIRED * sum(high):
        try:
            data.decode("gb18030")
        except UnicodeDecodeError:
            pass
        else:
            return "GB18030"
    # 0x80-0x9f are control characters in Latin-1, quotes and dashes in Windows' superset of it.
    return "WINDOWS-1252" if any(0x80 <= byte < 0xA0 for byte in data) else "LATIN1"


def _convert(path: Path, data: bytes) -> str:
    guess = likely_encoding(data)
    new = path.with_name(f"{path.stem}-utf8{path.suffix}")
    return (
        f"it looks like {guess}: iconv -f {guess} -t UTF-8 {shlex.quote(str(path))} "
        f"> {shlex.quote(str(new))}"
    )
