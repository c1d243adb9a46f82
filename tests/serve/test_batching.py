"""The queue and its worker: what makes a batch, what is refused, what a failure costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from ptv2_cli.serve import batching
from ptv2_cli.serve.batching import Batcher, Closed, Job, QueueFull


class Worker:
    """A batcher whose worker waits in each batch until it may go on."""

    def __init__(self, **options: Any) -> None:
        self.batches: list[list[Any]] = []
        self.answers: dict[Any, Future[Any]] = {}
        self.fails: Callable[[list[Job]], bool] = lambda batch: False
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        settings = {"max_batch": 4, "max_wait": 0.0, "max_queue": 10, **options}
        self.batcher = Batcher(self._answer, self._deliver, **settings)

    def _answer(self, batch: list[Job]) -> list[Any]:
        self.batches.append([job.content for job in batch])
        self.begun.release()
        self.may_end.acquire()
        if self.fails(batch):
            raise ValueError(f"a batch of {len(batch)}")
        return [job.content * 10 for job in batch]

    def _deliver(self, batch: list[Job], answers: Any) -> None:
        for job, answer in zip(batch, answers, strict=True):
            self.answers[job.content].set_result(answer)

    def put(self, content: int, rows: int = 1, group: Any = "g") -> Job:
        """A job with this content."""
        self.answers[content] = Future()
        job = Job(group, rows, content)
        self.batcher.submit(job)
        return job

    def busy(self) -> None:
        """Let the worker be in the batch of job 0."""
        self.put(0)
        assert self.begun.acquire(timeout=60)

    def go_on(self, batches: int = 100) -> None:
        """Let so many batches end."""
        self.may_end.release(batches)

    def answer(self, content: int) -> Any:
        """What a job got."""
        return self.answers[content].result(timeout=60)


@pytest.fixture
def worker() -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(**options: Any) -> Worker:
        made.append(Worker(**options))
        return made[-1]

    yield make
    for each in made:
        each.go_on()
        assert each.batcher.close(60)


def test_what_waits_goes_together_up_to_the_limit(worker: Callable[..., Worker]) -> None:
    one = worker(max_batch=4)
    one.busy()
    for content, rows in ((1, 2), (2, 1), (3, 2), (4, 9), (5, 1)):
        one.put(content, rows)
        one.batcher._max_queue = 100
    one.go_on()
    assert [one.answer(content) for content in range(6)] == [0, 10, 20, 30, 40, 50]
    # 2 + 1 rows, since 2 more would be 5; a job that is larger than a batch goes alone.
    assert one.batches == [[0], [1, 2], [3], [4], [5]]


def test_the_oldest_job_says_which_group_is_next(worker: Callable[..., Worker]) -> None:
    one = worker()
    one.busy()
    for content, group in ((1, "b"), (2, "a"), (3, "b"), (4, "a")):
        one.put(content, group=group)
    one.go_on()
    for content in range(5):
        one.answer(content)
    assert one.batches == [[0], [1, 3], [2, 4]]


def test_a_full_batch_does_not_wait(worker: Callable[..., Worker]) -> None:
    one = worker(max_batch=3, max_wait=600.0)
    one.go_on()
    for content in (1, 2, 3):
        one.put(content)
    assert [one.answer(content) for content in (1, 2, 3)] == [10, 20, 30]
    assert one.batches == [[1, 2, 3]]


def test_a_job_waits_no_longer_than_it_may(
    worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(batching.time, "monotonic", lambda: now)
    one = worker(max_wait=5.0)
    one.go_on()
    job = one.put(1)
    job.arrived = now
    assert one.batches == []
    now = 104.9
    late = one.put(2)
    late.arrived = now
    assert one.batches == []
    now = 105.0
    one.batcher.call(lambda: None).result(timeout=60)  # which wakes the worker
    assert [one.answer(1), one.answer(2)] == [10, 20]
    assert one.batches == [[1, 2]]


def test_a_full_queue_refuses(worker: Callable[..., Worker]) -> None:
    one = worker(max_queue=10)
    one.busy()
    one.put(1, rows=50)  # alone: it could never be taken otherwise
    with pytest.raises(QueueFull) as caught:
        one.batcher.check_room()
    assert caught.value.seconds >= 1
    with pytest.raises(QueueFull):
        one.put(2)
    assert one.batcher.rows_waiting == 50
    one.go_on()
    assert one.answer(1) == 10
    one.put(3)
    assert one.answer(3) == 30


def test_when_to_try_again_is_what_waits_by_the_speed(worker: Callable[..., Worker]) -> None:
    one = worker()
    assert one.batcher.retry_after == 1
    one.batcher._rate, one.batcher.rows_waiting = 10.0, 95
    assert one.batcher.retry_after == 10
    one.batcher.rows_waiting = 10**6
    assert one.batcher.retry_after == batching.LONGEST_RETRY
    one.batcher.rows_waiting = 0


def test_a_cancelled_job_leaves_the_queue(worker: Callable[..., Worker]) -> None:
    one = worker()
    one.busy()
    job, _ = one.put(1, rows=3), one.put(2)
    assert one.batcher.cancel(job)
    assert one.batcher.rows_waiting == 1
    assert not one.batcher.cancel(job)
    one.go_on()
    assert one.answer(2) == 20
    assert one.batches == [[0], [2]]


def test_one_bad_job_does_not_fail_the_others(worker: Callable[..., Worker]) -> None:
    one = worker()
    one.busy()
    one.fails = lambda batch: any(job.content == 2 for job in batch)
    for content in (1, 2, 3):
        one.put(content)
    one.go_on()
    assert (one.answer(1), one.answer(3)) == (10, 30)
    assert str(one.answer(2)) == "a batch of 1"
    assert one.batches == [[0], [1, 2, 3], [1], [2], [3]]
    assert one.batcher.alive


def test_calls_come_before_the_next_batch(worker: Callable[..., Worker]) -> None:
    one = worker()
    one.busy()
    one.put(1)
    seen: list[int] = []
    call = one.batcher.call(lambda: seen.append(len(one.batches)) or threading.current_thread())
    failing = one.batcher.call(lambda: 1 / 0)
    one.go_on()
    assert call.result(timeout=60) is one.batcher._thread
    assert isinstance(failing.exception(timeout=60), ZeroDivisionError)
    assert one.answer(1) == 10
    assert seen == [1]


def test_closing_answers_what_waits_and_takes_nothing_more(worker: Callable[..., Worker]) -> None:
    one = worker(max_wait=600.0, max_batch=1)
    one.busy()
    one.put(1)
    one.put(2)
    assert not one.batcher.close(0.0)
    for refused in (lambda: one.put(3), lambda: one.batcher.call(lambda: None)):
        with pytest.raises(Closed):
            refused()
    one.go_on()
    assert one.batcher.close(60)
    assert (one.answer(1), one.answer(2)) == (10, 20)
    assert not one.batcher.alive
