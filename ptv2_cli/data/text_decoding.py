"""A data file, or standard input, as lines of text: unzipped and decoded as they are read.

The first bytes show the encoding: a byte order mark, the NUL bytes of UTF-16, else UTF-8.
A file that begins as gzip does is unzipped, whatever its name.
"""

from __future__ import annotations

import codecs
import io
import shlex
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from ptv2_cli.errors import DataError

PAIRED = 0.9
"""Share of bytes above 127 that are next to another such byte: a script of two-byte letters."""
_UTF8 = "utf-8-sig"
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_GZIP = b"\x1f\x8b"
_ENOUGH = 64
"""Bytes that show the encoding."""
_PIECE = 1 << 20
"""Most bytes that are unzipped at once: a small file may hold gigabytes."""
_READ = 1 << 18
"""Bytes of a file that are read, decoded and checked at once."""
_BYTES = 0xDC00
"""A byte that cannot be decoded becomes this code point plus its value, as in surrogateescape."""


class TextLines:
    """Lines with their ends, read once and one at a time; only a line feed ends a line.

    Bytes that cannot be decoded stay in the text, where `check` refuses them: one bad line does
    not end the reading. A line of nothing but a byte order mark is blank.

    Attributes:
        path: what messages call it.
        encoding: the one given, or once the first line is read the one that the bytes show.
    """

    def __init__(
        self,
        stream: Iterable[bytes],
        path: Path,
        encoding: str | None = None,
        file: Path | None = None,
    ) -> None:
        """Take a stream of bytes in pieces of any size.

        Args:
            stream: the bytes.
            path: what messages call it.
            encoding: one of Python's; None: what the first bytes show.
            file: the file of these bytes, if they can be read again.
        """
        self.path = path
        self.encoding = encoding or _UTF8
        if encoding is not None and codecs.lookup(encoding).name == "utf-8":
            self.encoding = _UTF8
        self._given = encoding
        self._file = file
        self._ahead: deque[str] = deque()
        self._suspect = False
        self._pieces = self._read(stream)
        self._piece: Iterator[str] = iter(())
        self._lines = self._each_line()

    def __iter__(self) -> Iterator[str]:
        while self._ahead:
            yield self._ahead.popleft()
        yield from self._lines

    def pieces(self) -> Iterator[list[str]]:
        """The lines as they were read: some at once, at least one."""
        if left := [*self._ahead, *self._piece]:
            self._ahead.clear()
            yield left
        yield from self._pieces

    def _each_line(self) -> Iterator[str]:
        for piece in self._pieces:
            self._piece = iter(piece)
            yield from self._piece

    def head(self, count: int) -> list[str]:
        """The next lines, `count` at most, without consuming them."""
        self._ahead += islice(self._lines, max(count - len(self._ahead), 0))
        return list(islice(self._ahead, count))

    def first(self, wanted: Callable[[str], object]) -> str:
        """The next line that is `wanted`, without consuming it; "" if there is none."""
        known = next((line for line in self._ahead if wanted(line)), None)
        if known is not None:
            return known
        for line in self._lines:
            self._ahead.append(line)
            if wanted(line):
                return line
        return ""

    def whole(self) -> str:
        """All that is left."""
        return "".join(self)

    def again(self) -> TextLines | None:
        """The same text from its beginning; None if it can be read only once."""
        return None if self._file is None else open_text(self._file, self._given)

    def check_line(self, text: str, number: int) -> None:
        """Check the last line that was read, or a part of it, as `check` does.

        Costs nothing until the first piece of the file that holds other than characters.
        """
        if self._suspect:
            self.check(text, f"{self.path}:{number}")

    def check(self, text: str, where: str) -> None:
        """Check that a part of the text holds only characters.

        Raises:
            DataError: it holds bytes that are not of the encoding, a NUL, or half a surrogate pair.
        """
        half = _half(text)
        name = "UTF-8" if self.encoding == _UTF8 else self.encoding
        least = _BYTES + (0x80 if self.encoding == _UTF8 else 0)
        if half is not None and least <= half <= _BYTES + 0xFF:
            what = f"not {name}: byte 0x{half - _BYTES:02x}"
            raise DataError.at(where, what, self._advice(text))
        if "\0" in text:
            raise DataError.at(where, f"not {name}: it holds NUL bytes", self._advice(text))
        check_unicode(text, where)

    def _advice(self, text: str) -> str:
        if self._given is not None:
            return "name another task.encoding (ptv2 predict: --encoding), or leave it out"
        guess = likely_encoding(_as_bytes(text))
        hint = f"it looks like {guess}: task.encoding: {guess} reads it (ptv2 predict: --encoding)"
        if self._file is None:
            return hint
        new = self._file.with_name(f"{self._file.stem}-utf8{self._file.suffix}")
        command = f"iconv -f {guess} -t UTF-8 {shlex.quote(str(self._file))}"
        return f"{hint}; or convert it: {command} > {shlex.quote(str(new))}"

    def _read(self, stream: Iterable[bytes]) -> Iterator[list[str]]:
        pieces = _unzipped(iter(stream), self.path)
        first = next(pieces, b"")
        while len(first) < _ENOUGH and b"\n" not in first and (more := next(pieces, b"")):
            first += more
        if self._given is None:
            self.encoding = sniffed_encoding(b"".join(first.partition(b"\n")[:2]))
        decoder = codecs.getincrementaldecoder(self.encoding)(_ESCAPE)
        begun: list[str] = []
        for piece in _and_end(first, pieces):
            try:
                text = decoder.decode(piece or b"", final=piece is None)
            except UnicodeError as error:  # UTF-16 without its mark: no handler is called
                what = f"cannot be read as {self.encoding}: {error}"
                raise DataError.at(str(self.path), what, self._advice("")) from None
            self._suspect = self._suspect or "\0" in text or _half(text) is not None
            if "\n" not in text:
                begun += [text] if text else []
                continue
            lines = io.StringIO("".join([*begun, text]), newline="\n").readlines()
            begun = [] if lines[-1].endswith("\n") else [lines.pop()]
            if "\ufeff" in text:
                lines = [_without_lone_mark(line) for line in lines]
            yield lines
        if begun:
            yield [_without_lone_mark("".join(begun))]


def open_text(path: Path, encoding: str | None = None) -> TextLines:
    """The text of a file, opened when its first line is read.

    Raises:
        DataError: from reading it: the file cannot be read, or is a damaged gzip file.
    """
    return TextLines(_bytes_of(path), path, encoding, file=path)


def sniffed_encoding(first: bytes) -> str:
    """The encoding that the first bytes of a file show, as Python calls it."""
    for mark, name in _MARKS.items():
        if first.startswith(mark):
            return name
    even, odd = set(first[:_ENOUGH:2]), set(first[1:_ENOUGH:2])
    if odd == {0} and 0 not in even:
        return "utf-16-le"
    if even == {0} and odd and 0 not in odd:
        return "utf-16-be"
    return _UTF8


def check_unicode(text: str, where: str) -> None:
    """Check that text can be written as UTF-8.

    Raises:
        DataError: it holds half a surrogate pair.
    """
    half = _half(text)
    if half is not None:
        raise DataError.at(
            where,
            f"half a surrogate pair: \\u{half:04x}",
            "write characters beyond \\uffff as both halves, or as themselves",
        )


def likely_encoding(data: bytes) -> str:
    """What bytes that are no UTF-8 probably are, as iconv and Python call it.

    charset-normalizer guesses worse from the one line that is known here: it reads short lines in
    Latin-1, Windows-1252 and GB18030 as other encodings. It is better at Russian, Japanese and
    Korean.
    """
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


def _escape(error: UnicodeError) -> tuple[str, int]:
    """As surrogateescape, also for bytes below 128, which may be wrong in UTF-16."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(_BYTES + byte) for byte in bad), error.end


_ESCAPE = "ptv2-escape"
codecs.register_error(_ESCAPE, _escape)


def _as_bytes(text: str) -> bytes:
    """A text in UTF-8, with the bytes that could not be decoded as they were."""
    kept = (ord(sign) - _BYTES for sign in text)
    return b"".join(
        bytes([byte]) if 0 <= byte <= 0xFF else sign.encode(errors="replace")
        for sign, byte in zip(text, kept, strict=True)
    )


def _half(text: str) -> int | None:
    """The code of the first lone half of a surrogate pair in a text."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return ord(text[error.start])
    return None


def _without_lone_mark(line: str) -> str:
    return line.replace("\ufeff", "") if not line.replace("\ufeff", "").strip() else line


def _and_end(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes | None]:
    yield first
    yield from pieces
    yield None


def _bytes_of(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            while piece := stream.read(_READ):
                yield piece
    except OSError as error:
        raise DataError.at(str(path), f"cannot be read: {error.strerror}") from None


def _unzipped(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """The bytes of a gzip file's members; other bytes as they are."""
    first = next(pieces, b"")
    if not first.startswith(_GZIP):
        yield first
        yield from pieces
        return
    unzip, data = zlib.decompressobj(wbits=31), first
    try:
        while True:
            if piece := unzip.decompress(data, _PIECE):
                yield piece
            data = unzip.unconsumed_tail
            if unzip.eof:
                data = unzip.unused_data.lstrip(b"\0")  # which may pad the end
                if data or (data := next(pieces, b"").lstrip(b"\0")):
                    unzip = zlib.decompressobj(wbits=31)
                else:
                    return
            elif not data and not (data := next(pieces, b"")):
                raise zlib.error("it ends too early")
    except zlib.error as error:
        raise DataError.at(str(path), f"a damaged gzip file: {error}", "fetch it again") from None
