"""The processes that train one run together, and what they send each other.

Every rank runs the same code on its own share of the rows and calls the same functions of its
`ProcessGroup` in the same order. Tensors travel by the device's backend (gloo on a CPU, NCCL on a
GPU), objects and decisions by gloo, so that a GPU's queue never waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ptv2_cli.distributed.rank import Rank
from ptv2_cli.errors import (
    EXIT_DEFECT,
    Interrupted,
    MachineError,
    Problem,
    Ptv2Error,
    RankEnded,
    out_of_memory,
)

MEETING = timedelta(minutes=10)
"""How long ranks wait at the start until all have come."""
WORKING = timedelta(days=7)
"""How long they wait for one another afterwards; rank 0 may work alone for a while. A rank that
ends is noticed at once, because its connections close."""
LEAVING = timedelta(minutes=5)
"""How long they wait for a rank to leave that has failed, or that says what was saved."""
BUCKET = 1 << 24
"""Values of one flat sum (fp32: 64 MiB); prompts, adapters and heads fit into one."""

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The ranks of a run; without arguments this process alone, where nothing is sent."""

    rank: int = 0
    size: int = 1
    _tensors: Any = None
    """torch's group for tensors on the run's device."""
    _objects: Any = None
    """torch's group on gloo, for objects and numbers."""

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes and prints."""
        return self.rank == 0

    @property
    def tensors(self) -> Any:
        """torch's group for tensors on the run's device; None: this process alone."""
        return self._tensors

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks: the same bits in every rank.

        All tensors travel as one flat fp32 tensor, in parts of `BUCKET` values.

        Args:
            tensors: on the run's device, of the same shapes in every rank.

        Raises:
            RankEnded: another rank has ended.
        """
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1).float() for tensor in bucket])
            with _noticing():
                dist.all_reduce(flat, group=self._tensors)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def largest(self, numbers: Sequence[int]) -> list[int]:
        """The largest of each number over all ranks; the device is not waited for.

        Raises:
            RankEnded: another rank has ended.
        """
        if self.size == 1:
            return list(numbers)
        held = torch.tensor(numbers, dtype=torch.int64)
        with _noticing():
            dist.all_reduce(held, op=dist.ReduceOp.MAX, group=self._objects)
        values: list[int] = held.tolist()
        return values

    def gather(self, value: T) -> list[T]:
        """The value of every rank, by rank; values must be picklable, their tensors on the CPU.

        Raises:
            RankEnded: another rank has ended.
        """
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _noticing():
            dist.all_gather_object(values, value, group=self._objects)
        return values

    def from_first(self, value: T) -> T:
        """The value of rank 0; what the others give is not looked at. See `gather`."""
        if self.size == 1:
            return value
        values: list[Any] = [value if self.first else None]
        with _noticing():
            dist.broadcast_object_list(values, src=0, group=self._objects)
        received: T = values[0]
        return received

    def by_first(self, call: Callable[[], T]) -> T:
        """What `call` returns in rank 0, which alone calls it: to read or write a file once.

        Raises:
            RankEnded: it raised an error in rank 0.
        """
        return self.from_first(call() if self.first else None)  # type: ignore[return-value]

    def gather_rows(self, rows: Tensor, count: int) -> Tensor | None:
        """All rows of a tensor, in rank 0; None in the others.

        Args:
            rows: those of this rank, on the run's device: ceil(count / size), fewer in the last.
            count: of all ranks together.

        Raises:
            RankEnded: another rank has ended.
        """
        mine = _padded(rows, -(-count // self.size))
        parts = [torch.empty_like(mine) for _ in range(self.size)] if self.first else None
        with _noticing():
            dist.gather(mine, parts, dst=0, group=self._tensors)
        return None if parts is None else torch.cat(parts)[:count]

    def scatter_rows(self, rows: Tensor | None, mine: Tensor, count: int) -> None:
        """Give each rank its rows of a tensor that rank 0 has: the reverse of `gather_rows`.

        Args:
            rows: all of them, on the run's device, in rank 0; the others give None.
            mine: takes the rows of this rank.
            count: of all ranks together.

        Raises:
            RankEnded: another rank has ended.
        """
        most = -(-count // self.size)
        parts = None
        if rows is not None:
            parts = list(torch.split(_padded(rows, most * self.size), most))
        received = mine.new_empty(most, *mine.shape[1:])
        with _noticing():
            dist.scatter(received, parts, src=0, group=self._tensors)
        mine.copy_(received[: len(mine)])

    def outlive(self, rank: int) -> None:
        """Wait until a rank that has something to say, or to find out first, has left.

        The other processes of a run are killed soon after the first of them has ended.
        """
        with suppress(RuntimeError):  # the connection closes, nothing is ever sent
            work = dist.irecv(torch.zeros(1), rank, group=self._objects)
            if work is not None:
                work.wait(LEAVING)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block with all ranks: an error in one of them ends it in all.

        In the block a rank works by itself and sends nothing. The first of the ranks that fail
        raises its error, the others raise `RankEnded` with its exit code, and print nothing. An
        interruption is raised by all.
        """
        if self.size == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except RankEnded:
            raise
        except Exception as raised:
            error = raised
        reports = self.gather(_report(error))
        failed = [(rank, report) for rank, report in enumerate(reports) if report is not None]
        if not failed:
            return
        broken = [(rank, code) for rank, (code, interrupts, _) in failed if not interrupts]
        if broken:
            rank, code = broken[0]
            if error is not None and rank == self.rank:
                raise error
            raise RankEnded(rank, code)
        if error is not None:
            raise error
        code, _, problems = failed[0][1]
        raise Interrupted(code - 128, *problems)


ALONE = ProcessGroup()
"""The group of a process that trains by itself."""

_Report = tuple[int, bool, tuple[Problem, ...]]
"""An error's exit code, whether it is an interruption, and its problems."""


@contextmanager
def joined(rank: Rank | None, device: torch.device) -> Iterator[ProcessGroup]:
    """The group of the ranks of a run; without a rank this process alone. See `join`."""
    if rank is None:
        yield ALONE
        return
    try:
        group = join(rank, device)
        try:
            yield group
        except RankEnded as ended:
            if ended.rank is not None:
                group.outlive(ended.rank)
            raise
        except Interrupted:
            if not group.first:  # it may still hear this one, and then says what was saved
                group.outlive(0)
            raise
    finally:
        leave()


def join(rank: Rank, device: torch.device) -> ProcessGroup:
    """Wait for all ranks and connect with them; end it with `leave`.

    Args:
        rank: this process's.
        device: where it trains; a GPU must be the current one.

    Raises:
        MachineError: a rank did not come in time, or cannot be reached.
    """
    try:
        dist.init_process_group("gloo", timeout=MEETING)
        objects = dist.new_group(backend="gloo", timeout=WORKING)
        if device.type == "cuda":
            tensors = dist.new_group(backend="nccl", timeout=WORKING, device_id=device)
        else:
            tensors = objects
    except (RuntimeError, ValueError) as error:  # torch.distributed's own errors are RuntimeErrors
        leave()
        what = f"the {rank.size} processes cannot connect: {_first_line(error)}"
        hint = "check MASTER_ADDR, MASTER_PORT and the network, and that all of them were started"
        raise MachineError(Problem(f"rank {rank.number}", what, hint)) from error
    return ProcessGroup(rank.number, rank.size, tensors, objects)


def leave() -> None:
    """Close the connections to all ranks; those that wait for this one raise `RankEnded`."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _noticing() -> Iterator[None]:
    """Turn the error of a broken connection into `RankEnded`."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise RankEnded(None) from error


def _report(error: Exception | None) -> _Report | None:
    if error is None:
        return None
    if isinstance(error, Ptv2Error):
        return error.exit_code, isinstance(error, Interrupted), error.problems
    return EXIT_DEFECT, False, ()


def _padded(rows: Tensor, count: int) -> Tensor:
    """The rows, and zeros up to `count`."""
    padded = rows.new_zeros(count, *rows.shape[1:])
    padded[: len(rows)] = rows
    return padded


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, cut into lists of at most `BUCKET` values; one may have more."""
    bucket: list[Tensor] = []
    count = 0
    for tensor in tensors:
        if bucket and count + tensor.numel() > BUCKET:
            yield bucket
            bucket, count = [], 0
        bucket.append(tensor)
        count += tensor.numel()
    if bucket:
        yield bucket


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
