"""The study of a search: what it proposes, what a kill leaves, what it keeps secret."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from sqlalchemy.exc import OperationalError

from ptv2_cli.errors import ConfigError, MachineError, RunError
from ptv2_cli.sweeps import study as study_module
from ptv2_cli.sweeps.axes import Axis
from ptv2_cli.sweeps.search_options import JOURNAL, SearchOptions, without_password
from ptv2_cli.sweeps.study import Asked, Study

RATE = Axis(("train", "lr"), (1e-4, 1e-1), "", "", scale="log")
LENGTH = Axis(("prompt_len",), (2, 4, 8), "", "")
POOLING = Axis(("head", "pooling"), ("cls", {"name": "mean"}), "", "")
CELLS = [LENGTH, POOLING]


def opened(
    folder: Path,
    space: list[Axis],
    search: str = "tpe",
    *,
    prune: str | None = None,
    storage: str | None = None,
) -> Study:
    folder.mkdir(exist_ok=True)
    options = SearchOptions(search, 20, prune, None, storage)
    return Study(folder, options, space, mode="max", seed=11, evaluations=9)


def score(values: tuple[Any, ...]) -> float:
    """Best at a rate of 1e-2 and a length of 8."""
    return float(-abs(math.log10(values[0]) + 2) - abs(values[1] - 8) / 8)


def told(study: Study, count: int) -> list[Asked]:
    """Ask and tell so many settings."""
    asked = []
    for _ in range(count):
        one = study.ask()
        assert one is not None
        study.tell(one.number, "finished", score(one.values))
        asked.append(one)
    return asked


@pytest.mark.parametrize("search", ["tpe", "random"])
def test_a_study_that_goes_on_proposes_what_it_would_have_proposed(
    search: str, tmp_path: Path
) -> None:
    space = [RATE, LENGTH]
    whole = told(opened(tmp_path / "s", space, search), 16)
    shutil.move(tmp_path / "s", tmp_path / "whole")
    parts = [asked for _ in range(4) for asked in told(opened(tmp_path / "s", space, search), 4)]
    assert parts == whole
    assert len({asked.values for asked in whole}) == 16


def test_values_are_those_of_a_config(tmp_path: Path) -> None:
    whole_log = Axis(("prompt_len",), (2, 64), "", "", scale="log")
    steps = Axis(("train", "steps"), (5, 9), "", "", scale="int")
    share = Axis(("backbone", "dropout"), (0.0, 0.3), "", "", scale="uniform")
    space = [RATE, whole_log, steps, share, POOLING]
    study = opened(tmp_path / "s", space, "random")
    for _ in range(20):
        one = study.ask()
        assert one is not None
        rate, length, step, dropout, pooling = one.values
        assert 1e-4 <= rate <= 1e-1
        assert float(f"{rate:.4g}") == rate  # what is trained is what tables show
        assert isinstance(length, int)
        assert 2 <= length <= 64
        assert step in range(5, 10)
        assert 0 <= dropout <= 0.3
        assert pooling in POOLING.values


def test_tpe_learns(tmp_path: Path) -> None:
    def later(search: str) -> float:
        study = opened(tmp_path / search, [RATE, LENGTH], search)
        return statistics.fmean(score(asked.values) for asked in told(study, 40)[20:])

    assert later("tpe") > later("random") + 0.2


@pytest.mark.parametrize("search", ["tpe", "random", "grid"])
def test_nothing_is_asked_twice(search: str, tmp_path: Path) -> None:
    study = opened(tmp_path / "s", CELLS, search)
    asked = []
    for number in range(6):
        one = study.ask()
        assert one is not None
        asked.append(one)
        if number % 2:  # the others still run
            study.tell(one.number, "finished", 0.5)
    every = [(length, pooling) for length in LENGTH.values for pooling in POOLING.values]
    found = [one.values for one in asked]
    assert all(values in found for values in every)
    if search == "grid":
        assert found == every
    assert study.ask() is None
    again = opened(tmp_path / "s", CELLS, search)
    assert again.ask() is None
    assert again.count() == 6
    assert [one.values for one in again.asked() if one.state == "running"] == found[::2]


def test_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    whole = told(opened(tmp_path / "s", [RATE, LENGTH]), 12)
    shutil.move(tmp_path / "s", tmp_path / "whole")
    study = opened(tmp_path / "s", [RATE, LENGTH])
    told(study, 11)
    last = study.ask()
    assert last is not None
    study.tell(last.number, "finished", score(last.values))
    journal = tmp_path / "s" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    (tmp_path / "s" / f"{JOURNAL}.lock").touch()  # nobody waits for a process that is gone
    began = time.monotonic()
    again = opened(tmp_path / "s", [RATE, LENGTH])
    (left,) = [asked for asked in again.asked() if asked.state == "running"]
    again.tell(left.number, "finished", score(left.values))
    assert time.monotonic() - began < 20
    assert [asked.values for asked in again.asked()] == [asked.values for asked in whole]
    assert told(again, 1)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    told(opened(tmp_path / "s", [RATE]), 0)
    journal = tmp_path / "s" / JOURNAL
    journal.write_bytes(b"{\n" + journal.read_bytes())
    with pytest.raises(RunError, match="is damaged") as raised:
        opened(tmp_path / "s", [RATE])
    assert f"rm {journal}" in raised.value.problems[0].hint


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / JOURNAL).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="symbolic link"):
        opened(tmp_path / "s", [RATE])


def curves(study: Study, values: list[list[float]]) -> list[int]:
    """Report the curves of runs, one after another; returns how long each went on."""
    lengths = []
    for curve in values:
        one = study.ask()
        assert one is not None
        for evaluation, value in enumerate(curve, 1):
            study.report(one.number, evaluation, value)
            if study.gives_up(one.number) and evaluation < len(curve):  # else it has ended
                study.tell(one.number, "pruned")
                lengths.append(evaluation)
                break
        else:
            study.tell(one.number, "finished", max(curve))
            lengths.append(len(curve))
    return lengths


@pytest.mark.parametrize("prune", ["hyperband", "median", None])
def test_pruning(prune: str | None, tmp_path: Path) -> None:
    good, bad = [0.8] * 9, [0.1] * 9
    study = opened(tmp_path / "s", [RATE], "random", prune=prune)
    lengths = curves(study, [good] * 8 + [bad] * 8)
    assert lengths[:5] == [9] * 5
    given_up = sum(length < 9 for length in lengths[8:])
    assert (given_up >= 3) == (prune is not None)
    states = [asked.state for asked in study.asked()]
    assert states.count("pruned") == sum(length < 9 for length in lengths)


def test_a_score_that_is_known_stays(tmp_path: Path) -> None:
    study = opened(tmp_path / "s", [RATE], "random", prune="median")
    one = study.ask()
    assert one is not None
    study.report(one.number, 1, 0.5)
    study.report(one.number, 1, 0.7)  # a run that goes on repeats an evaluation after its save
    study.report(one.number, 2, math.nan)
    study.tell(one.number, "pruned")
    study.tell(one.number, "pruned")


def test_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    told(opened(tmp_path / "s", [RATE, LENGTH], storage=url), 3)
    assert not (tmp_path / "s" / JOURNAL).exists()
    (tmp_path / "other").mkdir()
    other = opened(tmp_path / "other" / "s", [RATE, LENGTH], storage=url)
    assert other.count() == 3  # two folders share one study
    assert other.asked(mine=True) == []
    assert len(opened(tmp_path / "s", [RATE, LENGTH], storage=url).asked(mine=True)) == 3


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("mysql+pymysql://me:se@cr:et@host/db", "mysql+pymysql://me:***@host/db"),
        ("sqlite:///file.db", "sqlite:///file.db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_database_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used") as raised:
        opened(tmp_path / "s", [RATE], storage="postgresql+nodriver://me:secret@host/db")
    assert "secret" not in str(raised.value)


def test_two_that_make_the_tables_of_a_database_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_with: list[Any] = []
    really = study_module.RDBStorage

    def first_fails(url: str, **options: Any) -> Any:
        opened_with.append(options["engine_kwargs"]["connect_args"]["timeout"])
        if len(opened_with) == 1:
            raise OperationalError("CREATE TABLE", {}, Exception("table studies already exists"))
        return really(url, **options)

    monkeypatch.setattr(study_module, "RDBStorage", first_fails)
    url = f"sqlite:///{tmp_path}/study.db"
    told(opened(tmp_path / "s", [RATE, LENGTH], storage=url), 1)
    assert opened_with == [study_module.LOCKED_SECONDS] * 2


def test_a_database_that_fails_later_is_no_bug() -> None:
    url = "postgresql://me:secret@host/db"
    failing = study_module.database_failures(url)
    with pytest.raises(MachineError, match="failed: OperationalError") as raised, failing:
        raise OperationalError("INSERT", {}, Exception("no secret host"))
    assert "secret" not in str(raised.value)
    assert "continues the search" in raised.value.problems[0].hint


def test_the_dashboard_opens_a_study(tmp_path: Path, free_port: Callable[[], int]) -> None:
    pytest.importorskip("optuna_dashboard")
    told(opened(tmp_path / "s", [RATE, LENGTH]), 3)
    port = free_port()
    program = "from optuna_dashboard._cli import main; main()"
    words = [str(tmp_path / "s" / JOURNAL), "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        (study,) = _answer(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        assert study["study_name"] == "s"
        trials = _answer(f"http://127.0.0.1:{port}/api/studies/{study['study_id']}")["trials"]
        assert [trial["state"] for trial in trials] == ["Complete"] * 3
    finally:
        server.kill()
        server.wait()


def _answer(url: str) -> Any:
    for _ in range(240):
        try:
            with urllib.request.urlopen(url) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"no answer from {url}")


@pytest.fixture
def free_port() -> Callable[[], int]:
    def find() -> int:
        import socket

        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return int(one.getsockname()[1])

    return find
