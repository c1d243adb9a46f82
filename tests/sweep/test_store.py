"""What a sweep keeps of earlier commands."""

from __future__ import annotations

from typing import Any

from ptv2_cli.sweep.entry import Entry, Outcome
from ptv2_cli.sweep.store import _together


def entry(mark: str, value: int, refused: bool = False) -> Entry:
    return Entry(mark, "s", "c", {"a": value}, 1, "t", "validation", "f1", "max", refused)


def test_new_entries_follow_the_known_ones() -> None:
    known, asked = [entry("a", 1), entry("b", 2)], [entry("c", 0), entry("b", 2)]
    assert [e.fingerprint for e in _together(known, asked)] == ["a", "b", "c"]


def test_a_refused_entry_gives_its_place_to_the_trial_that_can_run() -> None:
    known = [entry("x", 1, refused=True), entry("b", 2)]
    assert [e.fingerprint for e in _together(known, [entry("b", 2), entry("a", 1)])] == ["a", "b"]
    assert [e.fingerprint for e in _together(known, [entry("x", 1, True)])] == ["x", "b"]
    assert [e.fingerprint for e in _together(known, [entry("c", 3)])] == ["x", "b", "c"]


def test_keys_of_later_versions_are_passed_over() -> None:
    content: dict[str, Any] = {"status": "failed", "reason": "r", "from_the_future": 1}
    assert Outcome.read(content) == Outcome("failed", reason="r")
