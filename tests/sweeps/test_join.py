"""Several processes share the trials of a sweep, on file systems with and without locks."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny

from ptv2_cli.errors import Interrupted, MachineError, RunError
from ptv2_cli.runs.lock import locked
from ptv2_cli.sweeps import join, membership
from ptv2_cli.sweeps.join import run_joined
from ptv2_cli.sweeps.membership import Membership, living, writing_alone
from ptv2_cli.sweeps.records import Outcome
from ptv2_cli.sweeps.store import Store
from ptv2_cli.training.events import Started

FAILED = Outcome("failed", reason="a bug")


def let_die(sweep: Path, member: Membership) -> None:
    """As if the process had been killed long ago."""
    long_ago = time.time() - 2 * membership.STALE_SECONDS
    os.utime(member._alive, (long_ago, long_ago))


def test_a_trial_is_taken_once(tmp_path: Path) -> None:
    with Membership(tmp_path) as one, Membership(tmp_path) as other:
        assert one.count() == 2
        assert one.take("a")
        assert not other.take("a")
        assert not one.take("a")
        assert other.take("b")
        one.end("a", Outcome("finished", value=0.5))
        assert not other.take("a")
        known = other.claims()["a"].outcome
        assert known is not None
        assert known.value == 0.5
    assert living(tmp_path) == []


def test_those_of_a_process_that_has_left_are_free_at_once(tmp_path: Path) -> None:
    with Membership(tmp_path) as other:
        with Membership(tmp_path) as one:
            assert one.take("a")
            assert one.take("b")
            one.end("b", Outcome("finished"))
        assert other.take("a")
        assert not other.take("b")


def test_those_of_a_dead_process_go_to_one_of_the_others(tmp_path: Path) -> None:
    with (
        Membership(tmp_path) as one,
        Membership(tmp_path) as other,
        Membership(tmp_path) as third,
    ):
        assert one.take("a")
        let_die(tmp_path, one)
        assert [other.take("a"), third.take("a")] == [True, False]
        assert other.count() == 2
        with pytest.raises(MachineError, match="another one has taken its trials over"):
            one.require_own()
        other.require_own()


def test_a_file_that_is_being_written_is_no_free_trial(tmp_path: Path) -> None:
    with Membership(tmp_path) as one:
        claim = tmp_path / "join" / "a.0.json"
        claim.touch()
        assert not one.take("a")
        long_ago = time.time() - 2 * membership.STALE_SECONDS
        os.utime(claim, (long_ago, long_ago))
        assert one.take("a")


def test_one_that_joins_at_the_same_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = locked(tmp_path, looking=True)
    first.__enter__()
    threading.Timer(0.5, first.__exit__, (None, None, None)).start()
    with Membership(tmp_path) as one:
        assert one.count() == 1


def test_the_clock_of_the_file_system_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Membership(tmp_path) as one, Membership(tmp_path) as other:
        assert one.take("a")
        ahead = time.time() + 1e6
        monkeypatch.setattr(membership.time, "time", lambda: ahead)
        assert not other.take("a")


def test_signs_of_life_come_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "BEAT_SECONDS", 0.01)
    with Membership(tmp_path) as one:
        let_die(tmp_path, one)
        until = time.monotonic() + 60
        while not living(tmp_path) and time.monotonic() < until:
            time.sleep(0.01)
        assert [each["pid"] for each in living(tmp_path)] == [os.getpid()]


def test_sharing_and_writing_alone_exclude_each_other(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunError, match="another process") as raised:
        Membership(tmp_path).__enter__()
    assert "--join" in raised.value.problems[0].hint
    assert living(tmp_path) == []
    with Membership(tmp_path), pytest.raises(RunError, match=f"pid {os.getpid()}") as raised:
        writing_alone(tmp_path).__enter__()
    assert "--join" in raised.value.problems[0].hint
    with writing_alone(tmp_path) as has_locks:
        assert has_locks


@pytest.fixture
def configs(tmp_path: Path, folder_of: Callable[[str], Path]) -> list[Path]:
    rte = tiny.write_rte(tmp_path / "rte", train=12, validation=6)
    train = {"steps": 4, "eval_every": 2}
    return laned.write(tmp_path, folder_of("bert"), rte, {"prompt_len": 2}, train=train)


def joined(
    configs: list[Path], output: Path, watch: laned.Watch, lanes: int = 1
) -> tuple[laned.Swept, Callable[[], None]]:
    plan = laned.plan(configs, output, grid="prompt_len=2,3,4,5")
    swept = laned.Swept(plan, Store(plan, output), watch)
    swept.store.begin()
    swept.store.write_plan(alone=False)
    return swept, lambda: run_joined(swept.store, laned.engine(plan, lanes), watch, lanes=lanes)


@pytest.mark.parametrize("lanes", [1, 2])
def test_two_share_four_trials(
    lanes: int, configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "LOOK_SECONDS", 0.0)
    output = tmp_path / "runs"
    second, begin = joined(configs, output, laned.Watch(), lanes)
    watch = laned.Watch()

    def told(name: str, event: Any) -> None:
        # In the middle of the first one's first trials, the second does all others and leaves:
        # it would wait for those of the first.
        if isinstance(event, Started) and not second.watch.order:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(join.time, "sleep", leave)
                with pytest.raises(Interrupted):
                    begin()

    def leave(seconds: float) -> None:
        raise KeyboardInterrupt

    watch.told = told
    first, run = joined(configs, output, watch, lanes)
    run()
    assert len(set(watch.order)) == lanes
    assert set(watch.order) | set(second.watch.order) == {run.folder.name for run in first.runs}
    assert not set(watch.order) & set(second.watch.order)
    assert first.statuses == ["finished"] * 4
    assert len(watch.outcomes) == 4  # those of the second one are shown too
    assert not (first.store.folder / "join").exists()


def test_what_a_dead_one_had_goes_on_from_its_checkpoint(
    configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "LOOK_SECONDS", 0.0)
    output = tmp_path / "runs"
    watch = laned.Watch()

    class Killed(BaseException):
        pass

    def told(name: str, event: Any) -> None:
        if type(event).__name__ == "StepDone" and event.step == 3:
            raise Killed

    watch.told = told
    dead, run = joined(configs, output, watch)
    monkeypatch.setattr(Membership, "__exit__", lambda self, *error: self._stop.set())
    with pytest.raises(Killed):
        run()
    (left,) = (dead.store.folder / "join").glob("*.alive")
    after, run = joined(configs, output, laned.Watch())
    looks = 0

    def look(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:  # until then the dead one may live
            os.utime(left, (0, 0))

    monkeypatch.setattr(join.time, "sleep", look)
    run()
    assert looks == 3
    assert after.statuses == ["finished"] * 4
    assert after.watch.order[-1] == watch.order[0]
    (started,) = after.watch.of(watch.order[0], Started)
    assert started.resumed_at == 2


def test_a_failure_counts_for_all_and_is_tried_again_by_the_next_command(
    configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptv2_cli.sweeps import session_pool

    really = session_pool.open_session

    def failing(run: Any, *rest: Any) -> Any:
        if run.resolved.config.prompt_len == 3:
            raise RuntimeError("a bug")
        return really(run, *rest)

    output = tmp_path / "runs"
    with monkeypatch.context() as patch:
        patch.setattr(session_pool, "open_session", failing)
        first, run = joined(configs, output, laned.Watch())
        run()
    assert first.statuses == ["finished", "failed", "finished", "finished"]
    (claim,) = (first.store.folder / "join").glob(f"{first.plan.trials[1].record.fingerprint}.*")
    assert "a bug" in json.loads(claim.read_text())["outcome"]["reason"]
    again, run = joined(configs, output, laned.Watch())
    run()
    assert again.statuses == ["finished"] * 4
    assert len(again.watch.order) == 1


def test_a_process_that_stood_still_stops(configs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "runs"
    watch = laned.Watch()
    swept, run = joined(configs, output, watch)

    def told(name: str, event: Any) -> None:
        if isinstance(event, Started):
            mark = name.rpartition("-")[2]
            (swept.store.folder / "join" / f"{mark}.1.json").write_text("{}")

    watch.told = told
    with pytest.raises(MachineError, match="stood still"):
        run()
    assert len(watch.order) == 1
