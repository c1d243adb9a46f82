"""What a sweep keeps of earlier commands."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.errors import RunError
from ptv2_cli.runs.results import write_json
from ptv2_cli.sweeps.records import PLAN, RESULTS, Outcome, TrialRecord, read_outcomes, read_records
from ptv2_cli.sweeps.store import _merged


def record(mark: str, value: int, refused: bool = False) -> TrialRecord:
    return TrialRecord(mark, "s", "c", {"a": value}, 1, "t", "validation", "f1", "max", refused)


def test_new_entries_follow_the_known_ones() -> None:
    known, asked = [record("a", 1), record("b", 2)], [record("c", 0), record("b", 2)]
    assert [e.fingerprint for e in _merged(known, asked)] == ["a", "b", "c"]


def test_a_refused_entry_gives_its_place_to_the_trial_that_can_run() -> None:
    known = [record("x", 1, refused=True), record("b", 2)]
    assert [e.fingerprint for e in _merged(known, [record("b", 2), record("a", 1)])] == ["a", "b"]
    assert [e.fingerprint for e in _merged(known, [record("x", 1, True)])] == ["x", "b"]
    assert [e.fingerprint for e in _merged(known, [record("c", 3)])] == ["x", "b", "c"]


def test_keys_of_later_versions_are_passed_over(tmp_path: Path) -> None:
    told = {"status": "failed", "reason": "r", "from_the_future": 1}
    trial = {**asdict(record("a", 1)), "from_the_future": {}}
    write_json(tmp_path / PLAN, {"schema_version": 1, "trials": [trial]})
    write_json(tmp_path / RESULTS, {"schema_version": 1, "trials": {"a": told}})
    (known,) = read_records(tmp_path)
    assert known == record("a", 1)
    assert read_outcomes(tmp_path, tmp_path, [known]) == {"a": Outcome("failed", reason="r")}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (PLAN, [1], "is no file of a ptv2 sweep"),
        (PLAN, {"trials": 5}, "is no file of a ptv2 sweep: it is 5"),
        (PLAN, {"trials": [{"fingerprint": "a"}]}, "it has no 0.setting"),
        (RESULTS, {"trials": {"a": 5}}, "a is 5"),
        (RESULTS, {"trials": {"a": {"value": "x"}}}, 'a.value is "x"'),
        (RESULTS, {"trials": {"a": {"status": "odd"}}}, 'a.status is "odd"'),
    ],
)
def test_files_with_values_of_other_types(
    name: str, content: Any, says: str, tmp_path: Path
) -> None:
    body = {"schema_version": 1, **content} if isinstance(content, dict) else content
    (tmp_path / name).write_text(json.dumps(body))
    with pytest.raises(RunError, match=re.escape(says)):
        read_outcomes(tmp_path, tmp_path, [*read_records(tmp_path), record("a", 1)])
