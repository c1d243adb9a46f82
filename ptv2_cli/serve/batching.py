"""A bounded queue of requests and the one thread that answers them in batches."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
LONGEST_RETRY = 60
"""Most seconds after which a client is told to try again."""
SMOOTHING = 0.2
"""Share of the last batch in the estimate of rows a second."""


class QueueFull(Exception):
    """No room for further rows.

    Attributes:
        seconds: after which a client may try again.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"try again in {seconds} s")
        self.seconds = seconds


class Closed(Exception):
    """The server stops and takes no further requests."""


@dataclass(eq=False)
class Job:
    """The rows of a request.

    Attributes:
        group: jobs of equal groups may share a batch.
        rows: how many rows it has.
        content: what the worker's function reads.
        arrived: when it came, by `time.monotonic`.
    """

    group: Hashable
    rows: int
    content: Any
    arrived: float = field(default_factory=time.monotonic)


Answers = Sequence[Any]
"""What each job of a batch gets: its result, or the exception that it failed with."""


class Batcher:
    """Takes jobs from any thread and gives them, a batch at a time, to one worker thread.

    A batch begins with the job that has waited longest. Jobs of its group join it, in their order,
    until it has `max_batch` rows or its first job has waited for `max_wait` seconds; while a batch
    is answered the next one fills up, so that a busy server never waits for the time to pass.
    """

    def __init__(
        self,
        answer: Callable[[list[Job]], Answers],
        deliver: Callable[[list[Job], Answers], None],
        *,
        max_batch: int,
        max_wait: float,
        max_queue: int,
    ) -> None:
        """Start the worker.

        Args:
            answer: answers the jobs of a batch; called in the worker alone.
            deliver: gets the jobs of a batch with their answers, in the worker.
            max_batch: most rows of a batch of several jobs.
            max_wait: seconds that a job waits for others.
            max_queue: most rows that wait; one job is taken whatever its size.
        """
        self._answer, self._deliver = answer, deliver
        self._max_batch, self._max_wait, self._max_queue = max_batch, max_wait, max_queue
        self._waiting: dict[Hashable, deque[Job]] = {}
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self.rows_waiting = 0
        """Rows of the jobs that no batch has taken yet."""
        self._rate = 0.0
        """Rows a second while batches are answered, estimated."""
        # A daemon: a second Ctrl-C ends the process whatever the thread does.
        self._thread = threading.Thread(target=self._work, name="ptv2-serve", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._thread.is_alive()

    @property
    def retry_after(self) -> int:
        """Seconds until the rows that wait now are answered, estimated; at least 1."""
        seconds = self.rows_waiting / self._rate if self._rate else 1.0
        return max(1, min(LONGEST_RETRY, math.ceil(seconds)))

    def check_room(self, rows: int = 1) -> None:
        """Check that a job of so many rows would be taken.

        Raises:
            QueueFull: it would not.
            Closed: no job is.
        """
        if self._closing:
            raise Closed
        if self.rows_waiting and self.rows_waiting + rows > self._max_queue:
            raise QueueFull(self.retry_after)

    def submit(self, job: Job) -> None:
        """Put a job into the queue; see `check_room` for what it raises."""
        with self._ready:
            self.check_room(job.rows)
            self._waiting.setdefault(job.group, deque()).append(job)
            self.rows_waiting += job.rows
            self._ready.notify()

    def cancel(self, job: Job) -> bool:
        """Take a job out of the queue; False: it is answered already, or being answered."""
        with self._ready:
            jobs = self._waiting.get(job.group, ())
            if job not in jobs:
                return False
            self._remove(job)
            return True

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Call a function in the worker, before the next batch.

        Raises:
            Closed: the server stops.
        """
        future: Future[T] = Future()
        with self._ready:
            if self._closing:
                raise Closed
            self._calls.append((function, future))
            self._ready.notify()
        return future

    def close(self, seconds: float) -> bool:
        """Take nothing more, answer what waits, end the worker; False: it did not end in time."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._ready:
                while not (self._calls or self._waiting or self._closing):
                    self._ready.wait()
                call = self._calls.popleft() if self._calls else None
                batch = [] if call is not None else self._next_batch()
            if call is not None:
                _carry_out(*call)
            elif batch:
                self._deliver(batch, self._answered(batch))
            elif self._closing and not self._waiting:
                return

    def _next_batch(self) -> list[Job]:
        """Wait until a batch is due and take it; empty if a call came, or everything was cancelled.

        The caller holds the lock.
        """
        while self._waiting and not self._calls:
            group, jobs = min(self._waiting.items(), key=lambda item: item[1][0].arrived)
            left = jobs[0].arrived + self._max_wait - time.monotonic()
            if left <= 0 or self._closing or sum(job.rows for job in jobs) >= self._max_batch:
                return self._take(group)
            self._ready.wait(left)
        return []

    def _take(self, group: Hashable) -> list[Job]:
        jobs, batch, rows = self._waiting[group], list[Job](), 0
        while jobs and (not batch or rows + jobs[0].rows <= self._max_batch):
            rows += jobs[0].rows
            batch.append(jobs[0])
            self._remove(jobs[0])
        return batch

    def _remove(self, job: Job) -> None:
        jobs = self._waiting[job.group]
        jobs.remove(job)
        self.rows_waiting -= job.rows
        if not jobs:
            del self._waiting[job.group]

    def _answered(self, batch: list[Job]) -> Answers:
        """The answers to a batch; if it fails, each of its jobs is tried alone."""
        began = time.monotonic()
        try:
            answers = self._answer(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [answer for job in batch for answer in self._answered([job])]
        rate = sum(job.rows for job in batch) / max(time.monotonic() - began, 1e-6)
        self._rate = rate if not self._rate else self._rate + SMOOTHING * (rate - self._rate)
        return answers


def _carry_out(function: Callable[[], Any], future: Future[Any]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
