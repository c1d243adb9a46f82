"""Text from data, files and arguments, safe to show: control characters are spelled out."""

from __future__ import annotations

import re
from typing import Any

_UNSEEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: escape sequences, line breaks, bells
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction: text that reads as another one
    "\xad\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # invisible; line breaks
    "\ud800-\udfff"  # bytes of a file's name that are no UTF-8: they cannot be printed
    "\U000e0000-\U000e007f"  # tags: a text behind the text
    "]"
)
"""Joiners (U+200C, U+200D) are not among them: they shape the letters of several scripts."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str, keep: str = "") -> str:
    r"""The text with its control characters spelled out: `\n`, `\u001b`, `\u202e`.

    A line of output is then one line, says what it holds and changes nothing in a terminal. They
    are spelled as in JSON, so that JSON stays the same JSON.

    Args:
        text: anything.
        keep: characters that stay as they are, such as a line break.
    """
    return _UNSEEN.sub(lambda match: match[0] if match[0] in keep else _spelled(match[0]), text)


def _spelled(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return _SHORT.get(sign) or "".join(f"\\u{pair}" for pair in pairs)


_PASSWORD = re.compile(
    r"(?<=://)[^\s/@]+(?=@)"  # user and password of an address
    r"|(?<=[?&])((?:\w*_)?(?:token|key|password|secret))=[^\s&#]+",
    re.IGNORECASE,
)


def without_passwords(text: str) -> str:
    """The text with what may be secret in its addresses replaced by three asterisks."""
    return _PASSWORD.sub(lambda match: f"{match[1]}=***" if match[1] else "***", text)


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def guarded_cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula; all but text as it is.

    Text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe before
    it (OWASP, CSV Injection): labels and texts come from data that somebody else may have written.
    Text that spells a number, such as "-3.5", stays one.
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
