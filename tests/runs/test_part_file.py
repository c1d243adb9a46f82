"""A file that gets its name when it is whole, and what is said where it cannot be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptv2_cli.errors import InputError, MachineError
from ptv2_cli.runs.prediction import row_files
from ptv2_cli.runs.prediction.row_files import PartFile, check_output


def test_the_name_comes_last(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("older\n")
    file = PartFile(path)
    file.write(["a", "\u5317"])
    assert path.read_text() == "older\n"
    assert file.part.read_text(encoding="utf-8") == "a\n\u5317\n"
    file.write(iter(["c"]))
    file.finish()
    file.stop()
    assert path.read_text(encoding="utf-8") == "a\n\u5317\nc\n"
    assert (file.lines, file.kept) == (3, False)
    assert [found.name for found in tmp_path.iterdir()] == ["out.jsonl"]


def test_what_was_not_finished(tmp_path: Path) -> None:
    file = PartFile(tmp_path / "out.jsonl")
    file.write([])
    file.stop()
    assert not list(tmp_path.iterdir())
    file = PartFile(tmp_path / "out.jsonl")
    file.write(["a"])
    file.stop()
    assert file.kept
    assert [found.name for found in tmp_path.iterdir()] == ["out.jsonl.part"]


def test_nothing_written_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("older\n")
    PartFile(tmp_path / "bad.jsonl").finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (errno.ENOSPC, MachineError, "the disk is full"),
        (errno.EACCES, InputError, "cannot be written: "),
    ],
)
def test_a_write_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type, says: str
) -> None:
    file = PartFile(tmp_path / "out.jsonl")
    file.write(["a"])

    def fail(*_: object) -> Iterator[None]:
        raise OSError(code, "reason", "x")

    monkeypatch.setattr(row_files, "_write_all", fail)
    with pytest.raises(kind, match=says) as caught:
        file.write(["b"])
    assert str(tmp_path / "out.jsonl") in str(caught.value)
    if kind is MachineError:
        assert "out.jsonl.part holds 1 lines" in str(caught.value)


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="cannot be written"):
        check_output(tmp_path / "out.jsonl", None)
