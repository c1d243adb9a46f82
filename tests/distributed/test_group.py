"""What ranks send each other: sums, objects, decisions, and how an error reaches all of them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch

from ptv2_cli.distributed import group as group_module
from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.distributed.rank import Rank, rank_of_process
from ptv2_cli.errors import ConfigError, DataError, Interrupted, Problem, RankEnded

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def exchange(group: ProcessGroup) -> dict[str, Any]:
    own = [torch.full((2, 2), float(group.rank)), torch.ones(3), torch.ones(1).bfloat16()]
    group.sum(own)
    return {
        "sums": [tensor.tolist() for tensor in own],
        "largest": group.largest([group.rank, 7 - group.rank]),
        "gathered": group.gather({"rank": group.rank}),
        "first": group.from_first(f"of {group.rank}"),
    }


@pytest.mark.parametrize("size", [1, 3])
def test_what_ranks_send_each_other(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "BUCKET", 5)
    found = ranks.in_ranks(size, exchange)
    total = float(sum(range(size)))
    assert (
        found
        == [
            {
                "sums": [[[total] * 2] * 2, [float(size)] * 3, [float(size)]],
                "largest": [size - 1, 7],
                "gathered": [{"rank": rank} for rank in range(size)],
                "first": "of 0",
            }
        ]
        * size
    )


@pytest.mark.parametrize("count", [2, 5])
def test_rows_go_to_the_first_rank_and_back(count: int) -> None:
    """Of 2 rows the third rank has none, of 5 one."""
    whole = torch.arange(2.0 * count).view(count, 2)
    parts = [whole[:2], whole[2:4], whole[4:]] if count == 5 else [whole[:1], whole[1:], whole[2:]]

    def exchanged(group: ProcessGroup) -> Any:
        mine = torch.zeros_like(parts[group.rank])
        group.scatter_rows(whole if group.first else None, mine, count)
        rows = group.gather_rows(mine, count)
        return mine.tolist(), None if rows is None else rows.tolist()

    found = ranks.in_ranks(3, exchanged)
    assert [mine for mine, _ in found] == [part.tolist() for part in parts]
    assert [rows for _, rows in found] == [whole.tolist(), None, None]


def fails(group: ProcessGroup) -> None:
    with group.together():
        if group.rank:
            raise DataError.at("train.jsonl", f"bad in rank {group.rank}")


def test_an_error_of_a_rank_is_raised_once_and_ends_all() -> None:
    others, first, last = ranks.in_ranks(3, fails)
    assert isinstance(first, DataError)
    assert first.problems[0].what == "bad in rank 1"
    for other in (others, last):
        assert isinstance(other, RankEnded)
        assert (other.rank, other.exit_code, other.problems) == (1, 2, ())


@pytest.mark.parametrize(
    ("raised", "speaker"),
    [(MemoryError(), 1), (Interrupted(15, Problem("runs/x", "interrupted")), 0)],
    ids=["failed", "interrupted"],
)
def test_the_others_outlive_the_one_that_speaks(
    raised: Exception, speaker: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding out what would have helped takes a while, and so does saving; nobody ends it."""
    monkeypatch.setattr(group_module, "leave", lambda: None)  # the helper does it
    said = tmp_path / "said"

    def fails(group: ProcessGroup) -> bool:
        monkeypatch.setattr(group_module, "join", lambda rank, device: group)
        rank = Rank(group.rank, group.size, group.rank, group.size)
        with (
            suppress(MemoryError, Interrupted, RankEnded),
            group_module.joined(rank, torch.device("cpu")),
            group.together(),
        ):
            if group.rank == 1:
                raise raised
        if group.rank == speaker:
            time.sleep(1)
            said.touch()
        return said.exists()

    assert ranks.in_ranks(3, fails) == [True] * 3


def interrupted(group: ProcessGroup) -> None:
    with group.together():
        if group.rank == 1:
            raise Interrupted(15, Problem("runs/x", "interrupted"))


def test_an_interruption_of_a_rank_is_one_of_all() -> None:
    found = ranks.in_ranks(2, interrupted)
    assert [type(error) for error in found] == [Interrupted] * 2
    assert [error.exit_code for error in found] == [143] * 2
    assert [error.problems for error in found] == [(Problem("runs/x", "interrupted"),)] * 2


def killed(group: ProcessGroup) -> float:
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(RankEnded) as caught:
        group.sum([torch.ones(4)])
    assert caught.value.rank is None
    return time.monotonic() - began


def test_the_end_of_a_rank_is_noticed_at_once() -> None:
    seconds, nothing = ranks.in_ranks(2, killed)
    assert nothing is None
    assert seconds < 30


def test_alone_nothing_is_sent() -> None:
    values = torch.ones(2)
    ALONE.sum([values])
    assert ALONE.first
    assert values.tolist() == [1, 1]
    assert ALONE.gather("x") == ["x"]
    with pytest.raises(DataError), ALONE.together():
        raise DataError.at("", "bad")


def test_the_rank_comes_from_the_environment() -> None:
    assert rank_of_process(TORCHRUN) == Rank(number=3, size=4, local=1, local_size=2)
    assert rank_of_process({"RANK": "0", "WORLD_SIZE": "4"}) is None
    one = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    assert rank_of_process({**TORCHRUN, **one}) is None


@pytest.mark.parametrize(
    ("variables", "named"),
    [({"RANK": "x"}, "'x'"), ({"RANK": "4"}, "rank 4 of 4"), ({"LOCAL_RANK": "2"}, "2 of 2")],
)
def test_an_impossible_rank_is_refused(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        rank_of_process({**TORCHRUN, **variables})
