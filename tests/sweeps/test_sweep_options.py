"""Options of a sweep: lanes and engine, by flag and by section."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptv2_cli.config.load import load_config, parse_set
from ptv2_cli.errors import ConfigError
from ptv2_cli.sweeps.axes import from_section
from ptv2_cli.sweeps.options import LaneRequest, parse_lanes, requested_engine, requested_lanes

BASE = "method: ptuning_v2\nbackbone: b\ntask: superglue/rte\nprompt_len: 3\n"


def write(tmp_path: Path, section: str | None, name: str = "c.yaml") -> Path:
    path = tmp_path / name
    path.write_text(BASE + (f"sweep: {section}\n" if section else ""))
    return path


@pytest.mark.parametrize(("text", "count"), [("1", 1), (" 12 ", 12), ("auto", "auto")])
def test_a_number_or_auto(text: str, count: Any) -> None:
    assert parse_lanes(text) == count


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("x", "'x' is neither a number nor auto", "type --lanes auto, or --lanes 4"),
        ("", "'' is neither a number nor auto", "type --lanes auto"),
        ("2.5", "'2.5' is neither a number nor auto", "type --lanes auto"),
        ("0", "0 lanes cannot train anything", "--lanes 1 for one trial after another"),
        ("-3", "-3 lanes cannot train anything", "--lanes 1 for one trial after another"),
    ],
)
def test_neither_a_number_nor_auto(text: str, what: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_lanes(text)
    (problem,) = raised.value.problems
    assert problem.where == "--lanes"
    assert problem.what == what
    assert hint in problem.hint


def test_lanes_are_no_axis(tmp_path: Path) -> None:
    loaded = load_config(write(tmp_path, "{lanes: auto, prompt_len: [20, 100]}"))
    assert [axis.key for axis in from_section(loaded)] == ["prompt_len"]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("0", "not 0"), ("-1", "not -1"), ("2.5", "not 2.5"), ("true", "not true"),
        ("many", 'not the text "many"'), ("[2, 4]", "not a list"), ("null", "not null"),
    ],
)  # fmt: skip
def test_bad_sections_are_told_with_their_line_and_all_else(
    tmp_path: Path, value: str, seen: str
) -> None:
    path = write(tmp_path, f"{{lanes: {value}, lr: []}}")
    with pytest.raises(ConfigError) as raised:
        from_section(load_config(path))
    lanes, rates = raised.value.problems
    assert lanes.where == f"{path}:5"
    assert seen in lanes.what
    assert lanes.hint == "write sweep: {lanes: auto}"
    assert "sweep.lr is an empty list" in rates.what


def test_a_misspelt_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean lanes"):
        from_section(load_config(write(tmp_path, "{lane: 4}")))


def test_the_flag_wins_over_the_section(tmp_path: Path) -> None:
    path = write(tmp_path, "{lanes: 4, seed: [1]}")
    other = write(tmp_path, "{lanes: 2}", "other.yaml")
    assert requested_lanes(None, [path], []) == LaneRequest(4, f"{path}:5", "sweep: {lanes: auto}")
    assert requested_lanes("auto", [path, other], []) == LaneRequest("auto", "--lanes auto")
    assert requested_lanes(None, [path], [parse_set("sweep.lanes=auto")]).count == "auto"
    assert requested_lanes(None, [write(tmp_path, None)], []) == LaneRequest(1, "")


def test_configs_of_one_sweep_agree(tmp_path: Path) -> None:
    one = write(tmp_path, "{lanes: 4}")
    same = write(tmp_path, "{lanes: 4}", "same.yaml")
    silent = write(tmp_path, None, "silent.yaml")
    assert requested_lanes(None, [silent, one, same], []).count == 4
    other = write(tmp_path, "{lanes: auto}", "other.yaml")
    with pytest.raises(ConfigError) as raised:
        requested_lanes(None, [one, silent, other], [])
    (problem,) = raised.value.problems
    assert problem.where == f"{other}:5"
    assert problem.what == f"sweep.lanes is auto here and 4 in {one}:5"
    assert "type --lanes auto" in problem.hint


def test_an_engine_by_flag_or_section(tmp_path: Path) -> None:
    path = write(tmp_path, "{engine: local, seed: [1]}")
    assert [axis.key for axis in from_section(load_config(path))] == ["train.seed"]
    assert requested_engine(None, [path], []) == requested_engine("local", [], []) == "local"
    assert requested_engine(None, [write(tmp_path, None, "silent.yaml")], []) == "local"
    wrong = write(tmp_path, "{engine: lokal}", "wrong.yaml")
    attempts: list[Callable[[], Any]] = [
        lambda: from_section(load_config(wrong)),
        lambda: requested_engine(None, [wrong], []),
    ]
    for attempt in attempts:
        with pytest.raises(ConfigError) as raised:
            attempt()
        (problem,) = raised.value.problems
        assert problem.where == f"{wrong}:5"
        assert problem.what == "unknown engine 'lokal'"
        assert problem.hint == "did you mean 'local'? known engines: local, ray"
    with pytest.raises(ConfigError, match="--engine: unknown engine 'slurm'"):
        requested_engine("slurm", [path], [])
