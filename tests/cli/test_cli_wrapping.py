"""Lines in a terminal of 80 columns: broken between words, whole in a file."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Material, Ptv2
from rich.text import Text

from ptv2_cli.cli.console import wrapped

PROSE = "the best setting has not all its seeds, nor has any other one with a score of its own yet"
COMMAND = "ptv2 train configs/a-config.yaml --set method=head_only --unset train.lr --output there"


def lines(text: str, width: int = 40, hang: int = 2) -> list[str]:
    return [line.plain for line in wrapped(Text(text), width, hang)]


def test_words_stay_whole_and_further_lines_stand_in() -> None:
    found = lines(PROSE)
    assert max(map(len, found)) <= 40
    assert " ".join(line.strip() for line in found) == PROSE
    assert [line.startswith("  ") for line in found] == [False, True, True]
    assert lines(PROSE, hang=7)[1].startswith("       ")


def test_a_line_that_fits_is_as_it_was() -> None:
    assert lines("a  b   c \n\n   d") == ["a  b   c ", "", "   d"]


def test_a_hint_stands_under_its_first_word() -> None:
    found = lines(f"what is wrong\n  -> {PROSE}")
    assert found[:2] == ["what is wrong", "  -> the best setting has not all its"]
    assert {line[:5] for line in found[2:]} == {"     "}


@pytest.mark.parametrize("before", ["  -> type ", "next: ", "  "])
def test_a_command_can_be_copied_in_one_piece(before: str) -> None:
    found = lines(f"{before}{COMMAND}, or read the pages about it once more")
    (line,) = [line for line in found if "ptv2" in line]
    assert line.strip().endswith(f"{COMMAND},")
    assert "or read the pages about it once" in found[found.index(line) + 1]


def test_a_path_stays_behind_its_name() -> None:
    path = "/a/very/long" * 5
    assert lines(f"run: {path}") == [f"run: {path}"]
    assert lines(f"run: {path} and so on") == [f"run: {path}", "  and so on"]


def test_wide_signs_count_twice() -> None:
    assert lines("中文 " * 6, width=20) == ["中文 中文 中文", "  中文 中文 中文"]


def test_styles_stay() -> None:
    text = Text.assemble(("warning:", "yellow"), f" {PROSE}")
    first, *_ = wrapped(text, 40)
    assert [(span.start, span.end, span.style) for span in first.spans] == [(0, 8, "yellow")]


# The command in a terminal


def terminal(*words: str) -> str:
    """What a terminal of 80 columns is sent, without colours."""
    code = "import sys; from ptv2_cli.cli.app import main; main()"
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=there,
        stdout=there,
        stderr=there,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
    )
    os.close(there)
    text = b"".join(_chunks(here)).decode()
    process.wait(timeout=60)
    os.close(here)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            return
        if not data:
            return
        yield data


def test_a_terminal_gets_words_and_a_file_gets_lines(
    material: Material, ptv2: Ptv2, tmp_path: Path
) -> None:
    config = material.write(Path("config.yaml"), nonsense=1)
    whole = ptv2("check", config).err.splitlines()
    assert max(map(len, whole)) > 80
    shown = terminal("check", str(config)).splitlines()
    assert max(map(len, shown)) <= 80
    assert len(shown) > len(whole)
    assert " ".join(" ".join(shown).split()) == " ".join(" ".join(whole).split())
