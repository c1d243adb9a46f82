"""What one command leaves for the next."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ptv2_cli import cache


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTV2_CACHE", str(tmp_path / "cache"))


def _keep(*key: str, text: str = "x") -> Path | None:
    return cache.keep("kind", *key, write=lambda path: path.write_text(text) and None)


def test_an_entry_is_found_by_its_whole_key() -> None:
    made = _keep("ab", "c", text="content")
    found = cache.find("kind", "ab", "c")
    assert found == made
    assert found is not None
    assert found.read_text() == "content"
    assert cache.find("kind", "a", "bc") is None
    assert cache.find("other", "ab", "c") is None


def test_off_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTV2_CACHE", "off")
    assert _keep("a") is None
    assert cache.find("kind", "a") is None


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PTV2_CACHE", str(tmp_path / "file" / "below"))
    assert _keep("a") is None


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    assert cache.keep("kind", "a", write=full) is None
    assert cache.find("kind", "a") is None
    assert list((tmp_path / "cache" / "kind").iterdir()) == []


def test_the_entries_used_longest_ago_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 25)
    for age, name in enumerate(("first", "second")):
        path = _keep(name, text="0123456789")
        assert path is not None
        os.utime(path, (100 + age, 100 + age))
    assert cache.find("kind", "first") is not None  # counts as just used
    _keep("third", text="0123456789")
    assert cache.find("kind", "first") is not None
    assert cache.find("kind", "second") is None
    assert cache.find("kind", "third") is not None
