"""Hashes of files that are kept between commands: read once, and never of other bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ptv2_cli import cache
from ptv2_cli.config import file_hashes
from ptv2_cli.config.file_hashes import known_sha256
from ptv2_cli.errors import InputError

SIZE = file_hashes.LEAST_BYTES


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the files that were read to hash them; every file counts as settled."""
    monkeypatch.setenv("PTV2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", -60.0)
    names: list[str] = []
    plain = file_hashes.file_sha256

    def spy(path: Path) -> str:
        names.append(path.name)
        return plain(path)

    monkeypatch.setattr(file_hashes, "file_sha256", spy)
    return names


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(b"a" * SIZE)
    return path


def right(path: Path) -> bool:
    return known_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_unchanged_file_is_read_once(read: list[str], large: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(large)
    assert all(right(path) for path in (large, large, link))
    assert read == ["large"]


def test_a_changed_file_is_read_again(read: list[str], large: Path) -> None:
    assert right(large)
    before = large.stat()
    large.write_bytes(b"b" * SIZE)  # as many bytes
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))  # and set back
    assert large.stat().st_mtime_ns == before.st_mtime_ns
    assert right(large)
    assert len(read) == 2


def test_another_file_in_its_place_is_read(read: list[str], large: Path, tmp_path: Path) -> None:
    assert right(large)
    other = tmp_path / "other"
    other.write_bytes(b"c" * SIZE)
    state = large.stat()
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(large)
    assert right(large)
    assert len(read) == 2


def test_a_file_that_has_just_changed_is_not_trusted(
    read: list[str], large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", 3.0)
    assert right(large)
    assert right(large)
    assert len(read) == 2
    later = large.stat().st_ctime + 10
    monkeypatch.setattr(file_hashes.time, "time", lambda: later)
    assert right(large)
    assert right(large)
    assert len(read) == 3


def test_a_file_that_changes_while_it_is_hashed_is_not_kept(
    read: list[str], large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = file_hashes.file_sha256

    def slow(path: Path) -> str:
        digest = plain(path)
        path.write_bytes(b"d" * (SIZE + len(read)))
        return digest

    monkeypatch.setattr(file_hashes, "file_sha256", slow)
    known_sha256(large)
    monkeypatch.setattr(file_hashes, "file_sha256", plain)
    assert right(large)
    assert len(read) == 2


@pytest.mark.parametrize("text", ["", "no hash", "0" * 64 + " " + "0" * 64 + "\n", "\udcff"])
def test_a_damaged_entry_is_made_again(
    read: list[str], large: Path, text: str, tmp_path: Path
) -> None:
    assert right(large)
    (entry,) = (tmp_path / "cache" / "file-hashes").iterdir()
    good = entry.read_bytes()
    entry.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert right(large)
    assert len(read) == 2
    assert entry.read_bytes() == good


def test_small_files_are_not_kept(read: list[str], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"a" * (SIZE - 1))
    assert right(small)
    assert right(small)
    assert len(read) == 2
    assert not (tmp_path / "cache").exists()


def test_without_a_cache(read: list[str], large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTV2_CACHE", "off")
    assert cache.cache_folder() is None
    assert right(large)
    assert right(large)
    assert len(read) == 2


def test_a_missing_file(read: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        known_sha256(tmp_path / "absent")
