"""The table of settings: means, deviations, the best, the edge of the grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ptv2_cli.report.noise import Verdict
from ptv2_cli.sweeps.leaderboard import Leaderboard, make_leaderboards, show
from ptv2_cli.sweeps.records import Outcome, TrialRecord


def record(seed: int = 1, config: str = "c", task: str = "t", **values: Any) -> TrialRecord:
    return TrialRecord(
        fingerprint=f"{config}{task}{values}{seed}",
        setting=f"{config}{task}{values}",
        config=config,
        values=values,
        seed=seed,
        task=task,
        split="validation",
        metric="accuracy",
        mode="max",
    )


def board(*trials: tuple[TrialRecord, float | str], mode: str = "max") -> Leaderboard:
    """The one board of trials with a value, or with a status in its place."""
    outcomes = {
        e.fingerprint: Outcome("finished", v) if isinstance(v, float) else Outcome(v)  # type: ignore[arg-type]
        for e, v in trials
    }
    (made,) = make_leaderboards([e for e, _ in trials], outcomes)
    return Leaderboard(made.task, made.split, made.metric, mode, made.settings)


def test_mean_and_sample_deviation_over_seeds() -> None:
    made = board((record(1, a=2), 0.5), (record(2, a=2), 0.7), (record(3, a=2), 0.9))
    (setting,) = made.settings
    assert setting.mean == pytest.approx(0.7)
    assert setting.deviation == pytest.approx(0.2)  # 0.163 with n
    assert len(setting.scores) == 3


def test_one_seed_has_no_deviation() -> None:
    (setting,) = board((record(a=2), 0.5)).settings
    assert setting.deviation is None


def test_order_of_seeds_changes_no_bit() -> None:
    values = [0.1, 0.7, 1 / 3]
    one = board(*((record(s, a=1), v) for s, v in enumerate(values)))
    other = board(*((record(s, a=1), v) for s, v in enumerate(values[::-1])))
    assert one.settings[0].mean == other.settings[0].mean


def test_first_of_equals_is_best_and_rank_is_by_mean() -> None:
    made = board(
        (record(a=1), 0.5), (record(a=2), 0.9), (record(a=3), 0.9), (record(a=4), "failed")
    )
    assert made.best is made.settings[1]
    assert [s.records[0].values["a"] for s in made.ranked] == [2, 3, 1, 4]


def test_less_is_better_where_the_config_says_so() -> None:
    made = board((record(a=1), 0.5), (record(a=2), 0.9), mode="min")
    assert made.best is made.settings[0]


def test_a_setting_with_all_its_seeds_goes_before_a_lucky_one() -> None:
    lucky = [(record(1, a=1), 0.9), (record(2, a=1), "diverged")]
    made = board(*lucky, (record(1, a=2), 0.6), (record(2, a=2), 0.7))
    assert made.best is made.settings[1]
    assert (made.settings[0].diverged, made.settings[0].failed) == (1, 0)
    assert board(*lucky).best is not None


def test_a_diverged_run_with_a_value_does_not_count() -> None:
    e = record(a=1)
    (made,) = make_leaderboards([e], {e.fingerprint: Outcome("diverged", 0.9)})
    assert made.settings[0].scores == ()
    assert made.best is None


def test_boards_are_apart_by_task() -> None:
    first, second = record(task="x", a=1), record(task="y", a=1)
    outcomes = {e.fingerprint: Outcome("finished", 0.5) for e in (first, second)}
    assert [made.task for made in make_leaderboards([first, second], outcomes)] == ["x", "y"]


@pytest.mark.parametrize(
    ("grid", "best", "lowest", "beyond"),
    [
        ([20, 100], 100, False, 200),
        ([20, 100], 20, True, 10),
        ([10, 15], 15, False, 22),
        ([0.005, 0.01], 0.01, False, 0.02),
        ([0.001, 0.01], 0.01, False, 0.03),
        ([0.001, 0.01], 0.001, True, 0.00033),
        ([0, 0.1], 0, True, None),
        ([1, 2], 1, True, None),
    ],
)
def test_edges(grid: list[float], best: float, lowest: bool, beyond: float | None) -> None:
    made = board(*((record(a=v), 0.9 if v == best else 0.1) for v in grid))
    (edge,) = made.edges()
    assert (edge.key, edge.value, edge.lowest) == ("a", best, lowest)
    assert edge.beyond == (None if beyond is None else pytest.approx(beyond))


def test_no_edge_inside_of_the_grid_or_beside_a_failure() -> None:
    made = board((record(a=1), 0.1), (record(a=2), 0.9), (record(a=4), "diverged"))
    assert made.edges() == []


def test_no_edge_of_words_booleans_and_single_values() -> None:
    made = board((record(a="x", b=True, c=5), 0.9), (record(a="y", b=False, c=5), 0.1))
    assert made.edges() == []


def test_an_edge_is_seen_among_the_best_settings_own_neighbours() -> None:
    made = board(
        (record(m="p", n=2), 0.1), (record(m="p", n=4), 0.9), (record(m="f", n=None), 0.2),
        (record(m="q", n=8), 0.3),
    )  # fmt: skip
    assert [(edge.key, edge.value) for edge in made.edges()] == [("n", 4)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.005, "0.005"), (1e-05, "1e-05"), (20, "20"), (None, "null"), (True, "true"),
        ({"train": 10}, "{train: 10}"), ([1, "a"], "[1, a]"), ("cls", "cls"),
    ],
)  # fmt: skip
def test_shown(value: Any, text: str) -> None:
    assert show(value) == text


def test_a_key_that_is_null_is_not_a_key_that_is_missing() -> None:
    made = board((record(config="c", a=None), 0.5), (record(config="d", b=1), 0.6))
    assert [made.cells(setting) for setting in made.settings] == [
        ["c", "null", "-"], ["d", "-", "1"],
    ]  # fmt: skip


def test_the_best_line_says_what_could_as_well_be_best() -> None:
    made = board((record(a=1), 0.9), (record(a=2), 0.8), (record(a=3), 0.1))
    assert made.best_line() == "a 1: accuracy 90.0"
    words = [Verdict(True), Verdict(False, p=0.3), Verdict(False, p=0.001)]
    pairs = zip(made.settings, words, strict=True)
    made = replace(made, settings=tuple(replace(s, verdict=verdict) for s, verdict in pairs))
    assert made.best_line() == "a 1: accuracy 90.0; 1 of 2 other settings within its noise"
    assert [s["verdict"] for s in made.content()["settings"]] == ["best", "noise", "worse"]
