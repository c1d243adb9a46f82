"""Functions called in several processes that are the ranks of one run, forked from the tests'."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import tiny

from ptv2_cli.distributed.group import ProcessGroup, join, leave
from ptv2_cli.distributed.launch import free_port
from ptv2_cli.distributed.rank import Rank
from ptv2_cli.threads import count_restored

SECONDS = 600.0
"""When ranks that have not ended are killed."""
_FORK: Any = multiprocessing.get_context("fork")


def in_ranks(size: int, call: Callable[[ProcessGroup], Any]) -> list[Any]:
    """What `call` returns in each of `size` ranks, or the exception that it raises, by rank.

    A single one is this process: a forked one would crash in OpenMP's threads, which it lacks, if
    it goes on with more than one.
    """
    if size == 1:
        return [_alone(call)]
    variables = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    pipes = [_FORK.Pipe(duplex=False) for _ in range(size)]
    processes = [
        _FORK.Process(target=_call, args=(call, rank, size, variables, pipes[rank][1]), daemon=True)
        for rank in range(size)
    ]
    for process, (_, sent) in zip(processes, pipes, strict=True):
        process.start()
        sent.close()
    until = time.monotonic() + SECONDS
    try:
        return [_received(pipe, until) for pipe, _ in pipes]
    finally:
        for rank, process in enumerate(processes):
            process.join(0.0)
            if process.exitcode:  # pytest shows it with a test that fails
                sys.stderr.write(f"rank {rank} ended with {process.exitcode}\n")
            process.kill()
            process.join()


def _alone(call: Callable[[ProcessGroup], Any]) -> Any:
    with count_restored():
        try:
            return call(ProcessGroup())
        except Exception as error:
            return error


def _received(pipe: Connection, until: float) -> Any:
    if not pipe.poll(max(0.0, until - time.monotonic())):
        raise TimeoutError("a rank has not ended")
    try:
        return pipe.recv()
    except EOFError:
        return None  # it was killed


def _call(
    call: Callable[[ProcessGroup], Any],
    rank: int,
    size: int,
    variables: dict[str, str],
    pipe: Connection,
) -> None:
    os.environ.update(variables, RANK=str(rank), LOCAL_RANK=str(rank))
    try:
        answer = call(join(Rank(rank, size, rank, size), tiny.CPU))
    except Exception as error:
        traceback.print_exc()
        answer = error
    pipe.send(answer)
    leave()
    os._exit(0)
